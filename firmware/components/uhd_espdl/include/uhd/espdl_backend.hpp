// The inference backend of the chips: Espressif's ESP-DL, whose kernels use the vector instructions.
#pragma once

#include <stdint.h>

#include "uhd/backend.hpp"
#include "uhd/status.hpp"

namespace uhd {

// Works with one model at a time: open() lets go of the one before. open() refuses, with a reason and before ESP-DL sees
// anything, what ESP-DL would stop or restart the chip over: another chip's model, a damaged file, too little memory.
// It runs the model once, because ESP-DL makes the rest of its allocations in the first inference. Where UHD_ESPDL_*
// puts things is written to the log.
const Backend& espdl_backend();

// Everything below needs an open model; InvalidArgument otherwise.

// ESP-DL's own test: the vectors in the .espdl through the kernels of this chip. int8 must be equal; ESP-DL allows int16
// a difference of 1. Corrupt if an output differs or the file has no vectors.
Status espdl_self_test(const char** why);

// Bytes, as ESP-DL accounts for them.
struct EspdlMemory {
  uint32_t internal, psram, flash;                   // all of the model
  uint32_t activations_internal, activations_psram;  // part of it
  uint32_t weights_internal, weights_psram;          // part of it: copied weights
};
Status espdl_memory(EspdlMemory* memory);

// Writes a table of memory and one of microseconds an operator to the log, in the order of execution. Runs the model.
Status espdl_log_profile();

}  // namespace uhd
