// What the ESP-DL backend decides without ESP-DL: may this model run here, where do its parts go, are its tensors those
// that the host knows. Portable, so that every refusal is tested on the host.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "espdl_file.hpp"
#include "uhd/model.hpp"
#include "uhd/status.hpp"

namespace uhd {
namespace espdl {

constexpr uint32_t kMaxOutputs = 16;

// The longest reason, with its terminating zero.
constexpr size_t kReasonSize = 96;
using Reason = char[kReasonSize];

// The model's description and file: target is `chip`; the file is there, aligned, of a plain kind, complete, has the
// hash of the description, and is built as ESP-DL's schema says; no more outputs than there is room for. `why` is
// written unless Ok comes back.
Status check_model(const ModelInfo& model, const char* chip, Figures* figures, Reason& why);

// What the heap has, in bytes. `largest` is one block that kernels can use.
struct Heap {
  bool psram_built_in;  // CONFIG_SPIRAM: ESP-DL then keeps its objects there and nowhere else
  uint32_t psram_size;  // 0: none was found
  uint32_t internal_free, internal_largest;
  uint32_t psram_free, psram_largest;
};

enum class WeightPlace : uint8_t {
  kInPlace,   // where the file is
  kInternal,  // each tensor copied by ESP-DL; the allocator takes internal memory first
  kPsram,     // the whole file copied, and used from there
};

struct Wishes {
  uint32_t internal_limit;  // most internal memory for activations
  bool copy_weights;
  bool file_in_psram;
};

struct Placement {
  uint32_t internal_activations;  // ESP-DL's max_internal_size, which it allocates to the last byte
  WeightPlace weights;
};

// ESP-DL ends in a restart when memory runs out inside it: C++ containers abort, tensors and the first inference assert
// or write to null. So the need is predicted, from above, and compared with the heap before ESP-DL starts:
//   activations  5/4 of our own plan's arena and 2 KB. ESP-DL's planner is greedy.
//   weights      9/8 of all constants, if copied. On ESP32-S3 biases are packed anew.
//   objects      16 KB and 1.5 KB an operator: names, maps, an object for every tensor and operator. A build of ESP-DL
//                3.3.9 for a 64-bit machine took 87 KB for 49 operators; a chip's pointers are half as long.
// From internal memory kReserve more is left to drivers and stacks, and, where PSRAM takes what does not fit, only the
// smaller objects are counted. BufferTooSmall: too large; Unsupported: PSRAM is configured and missing.
Status plan(const ModelInfo& model, const Figures& figures, const Heap& heap, const Wishes& wishes,
            Placement* placement, Reason& why);

constexpr uint32_t kReserve = 32 * 1024;

constexpr uint64_t activations_needed(const ModelInfo& model) { return uint64_t{model.arena_size} * 5 / 4 + 2048; }
constexpr uint64_t weights_needed(const Figures& figures) { return uint64_t{figures.weights} * 9 / 8; }
constexpr uint64_t objects_needed(const Figures& figures) { return 16 * 1024 + uint64_t{figures.nodes} * 1536; }
constexpr uint64_t small_objects(const Figures& figures) { return 8 * 1024 + uint64_t{figures.nodes} * 512; }

// A tensor as ESP-DL has it.
struct Found {
  bool exists;
  const void* data;
  const int* shape;
  size_t rank;
  uint8_t integer_bytes;  // 1: int8, 2: int16, 0: anything else
  bool per_channel;       // more than one exponent
  int exponent;
  size_t bytes;  // of the data, by ESP-DL's own count
};

// `kind` is "input" or "output", for the reason.
Status check_tensor(const TensorInfo& expected, const Found& found, const char* kind, Reason& why);

// The same model for callers of run(): ESP-DL keeps its activations itself, so that the arena holds the border tensors
// only, one after the other.
struct Border {
  ModelInfo model;
  TensorInfo outputs[kMaxOutputs];
};
void make_border(const ModelInfo& model, Border* border);

// The arguments of run(), by the rules of model_run.
Status check_run(const ModelInfo& model, const void* input, void* const* outputs, const uint8_t* arena);

}  // namespace espdl
}  // namespace uhd
