// Where the model comes from: the app itself, a partition, or a file on an SD card (Kconfig, "UHD detector").
#pragma once

#include "uhd/model.hpp"

namespace uhd {

// The model, whose memory stays; null if there is none to use, and *why says why. Called once; may allocate.
const ModelInfo* find_model(const char** why);

}  // namespace uhd
