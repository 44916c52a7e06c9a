// What runs a model: the reference kernels in generated order, or the vendor's library. One interface, so that nothing
// above it knows which.
#pragma once

#include <stdint.h>

#include "uhd/model.hpp"
#include "uhd/status.hpp"

namespace uhd {

// As model_run: input, one buffer an output, and the arena of the ModelInfo that open() gave back.
using RunModel = Status (*)(const void* input, void* const* outputs, uint8_t* arena);

struct Backend {
  const char* name;
  // Prepares `model`, whose memory stays. On Ok, *used is what the device works with: the same tensors, at places of the
  // backend's own in an arena of its own size. Otherwise *why says why, in a few words. Allocates here only.
  Status (*open)(const ModelInfo& model, const ModelInfo** used, const char** why);
  RunModel run;
};

// The kernels of uhd_runtime in the order that codegen wrote down: model_run.
const Backend& reference_backend();

}  // namespace uhd
