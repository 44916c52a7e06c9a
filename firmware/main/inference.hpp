// Which model runs, and what runs it: the choices of Kconfig ("UHD detector").
#pragma once

#include "uhd/backend.hpp"
#include "uhd/model.hpp"

namespace uhd {

struct Inference {
  const Backend* backend;
  const ModelInfo* model;  // as the backend works with it; null: none, and `why` says why
  const char* why;
};

// Finds the model and prepares it; allocates what a backend needs. `may_start` off: only tells the backend's name.
Inference open_inference(bool may_start);

}  // namespace uhd
