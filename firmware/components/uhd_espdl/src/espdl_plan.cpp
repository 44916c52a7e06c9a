#include "espdl_plan.hpp"

#include <string.h>

#include "uhd/sha256.hpp"

namespace uhd {
namespace espdl {
namespace {

void append(Reason& why, const char* text) {
  const size_t used = strlen(why);
  const size_t room = kReasonSize - 1 - used;
  const size_t size = strlen(text) < room ? strlen(text) : room;
  memcpy(why + used, text, size);
  why[used + size] = '\0';
}

void append(Reason& why, int64_t value) {
  char digits[21];
  char* at = digits + sizeof(digits) - 1;
  *at = '\0';
  uint64_t rest = value < 0 ? uint64_t{0} - static_cast<uint64_t>(value) : static_cast<uint64_t>(value);
  do {
    *--at = static_cast<char>('0' + rest % 10);
    rest /= 10;
  } while (rest);
  if (value < 0) *--at = '-';
  append(why, at);
}

Status fail(Status status, Reason& why, const char* text) {
  why[0] = '\0';
  append(why, text);
  return status;
}

Status tensor_fault(const TensorInfo& tensor, const char* kind, Reason& why, const char* text) {
  why[0] = '\0';
  append(why, kind);
  append(why, " ");
  append(why, tensor.name);
  append(why, " ");
  append(why, text);
  return Status::Corrupt;
}

uint32_t word(const uint8_t* bytes) {
  return bytes[0] | uint32_t{bytes[1]} << 8 | uint32_t{bytes[2]} << 16 | uint32_t{bytes[3]} << 24;
}

Status too_large(Reason& why, uint64_t needed, uint64_t there, const char* of) {
  why[0] = '\0';
  append(why, "the model needs about ");
  append(why, static_cast<int64_t>((needed + 1023) / 1024));
  append(why, " KB of ");
  append(why, of);
  append(why, ", ");
  append(why, static_cast<int64_t>(there / 1024));
  append(why, " KB are free");
  return Status::BufferTooSmall;
}

uint64_t less(uint64_t value, uint64_t by) { return value > by ? value - by : 0; }
uint64_t smaller(uint64_t a, uint64_t b) { return a < b ? a : b; }
uint32_t align(uint32_t offset) { return (offset + kArenaAlignment - 1) & ~(kArenaAlignment - 1); }

}  // namespace

Status check_model(const ModelInfo& model, const char* chip, Figures* figures, Reason& why) {
  if (strcmp(model.target, chip) != 0) {
    why[0] = '\0';
    append(why, "the model is for ");
    append(why, model.target);
    append(why, ", this chip is ");
    append(why, chip);
    return Status::Unsupported;
  }
  if (!model.espdl) return fail(Status::NotFound, why, "the .espdl is not there");
  if (reinterpret_cast<uintptr_t>(model.espdl) % kArenaAlignment != 0) {
    return fail(Status::InvalidArgument, why, "the .espdl is not aligned to 16 bytes");
  }
  if (model.espdl_size <= kHeaderSize) return fail(Status::Corrupt, why, "the .espdl is too short");
  if (memcmp(model.espdl, "EDL2", 4) != 0) return fail(Status::Corrupt, why, "not an .espdl of one model (EDL2)");
  if (word(model.espdl + 4) != 0) return fail(Status::Unsupported, why, "the .espdl is encrypted");
  const uint32_t length = word(model.espdl + 8);
  if (length == 0 || length > model.espdl_size - kHeaderSize) {
    return fail(Status::Corrupt, why, "the .espdl is cut off");
  }
  if (model.output_count == 0 || model.output_count > kMaxOutputs) {
    return fail(Status::Unsupported, why, "1 to 16 outputs are possible");
  }
  uint8_t digest[32];
  sha256(model.espdl, model.espdl_size, digest);
  if (memcmp(digest, model.hash, sizeof(digest)) != 0) {
    return fail(Status::Corrupt, why, "the .espdl is not the one of the manifest");
  }
  if (read_figures(model.espdl, kHeaderSize + length, figures) != Status::Ok) {
    return fail(Status::Corrupt, why, "the .espdl is not built like one");
  }
  return Status::Ok;
}

Status plan(const ModelInfo& model, const Figures& figures, const Heap& heap, const Wishes& wishes,
            Placement* placement, Reason& why) {
  const uint64_t activations = activations_needed(model);
  const uint64_t weights = weights_needed(figures);
  const uint64_t objects = objects_needed(figures);
  *placement = {0, WeightPlace::kInPlace};

  if (!heap.psram_built_in) {
    const uint64_t there = less(heap.internal_free, kReserve);
    if (activations > heap.internal_largest) {
      return too_large(why, activations, heap.internal_largest, "internal memory in one piece");
    }
    if (activations + objects > there) return too_large(why, activations + objects, there, "internal memory");
    if (wishes.copy_weights && activations + objects + weights <= there) placement->weights = WeightPlace::kInternal;
    return Status::Ok;
  }

  if (heap.psram_size == 0) {
    return fail(Status::Unsupported, why, "ESP-DL needs the PSRAM of this configuration, and none is found");
  }
  // Whether or not a part of it ends up in internal memory, all of it could come to lie here.
  if (activations > heap.psram_largest) {
    return too_large(why, activations, heap.psram_largest, "PSRAM in one piece");
  }
  if (activations + objects > heap.psram_free) {
    return too_large(why, activations + objects, heap.psram_free, "PSRAM");
  }
  // Objects below 16 KB go to internal memory first, and to PSRAM when it is full.
  const uint64_t internal = less(heap.internal_free, kReserve + small_objects(figures));
  uint64_t inside = smaller(smaller(wishes.internal_limit, activations), smaller(internal, heap.internal_largest));
  inside &= ~uint64_t{kArenaAlignment - 1};
  if (inside < 1024) inside = 0;
  placement->internal_activations = static_cast<uint32_t>(inside);

  if (!wishes.copy_weights || wishes.file_in_psram) return Status::Ok;
  if (weights <= internal - inside) {
    placement->weights = WeightPlace::kInternal;
  } else if (activations + objects + model.espdl_size <= heap.psram_free &&
             activations + model.espdl_size <= heap.psram_largest) {
    placement->weights = WeightPlace::kPsram;
  }
  return Status::Ok;
}

Status check_tensor(const TensorInfo& expected, const Found& found, const char* kind, Reason& why) {
  if (!found.exists) {
    tensor_fault(expected, kind, why, "is not in the .espdl");
    return Status::NotFound;
  }
  if (!found.data) {
    tensor_fault(expected, kind, why, "has no memory");
    return Status::BufferTooSmall;
  }
  const int shape[4] = {1, expected.height, expected.width, expected.channels};
  bool same = found.rank == 4 && found.shape;
  for (size_t i = 0; same && i < 4; ++i) same = found.shape[i] == shape[i];
  if (!same) return tensor_fault(expected, kind, why, "has another shape than the manifest says");
  if (found.integer_bytes != expected.bytes) {
    return tensor_fault(expected, kind, why, expected.bytes == 1 ? "is not int8" : "is not int16");
  }
  if (found.per_channel || found.exponent != expected.exponent) {
    tensor_fault(expected, kind, why, "has exponent ");
    append(why, found.exponent);
    append(why, ", the manifest says ");
    append(why, expected.exponent);
    return Status::Corrupt;
  }
  if (found.bytes != expected.size()) return tensor_fault(expected, kind, why, "has another size than its shape");
  return Status::Ok;
}

void make_border(const ModelInfo& model, Border* border) {
  border->model = model;
  border->model.input.arena_offset = 0;
  uint32_t end = align(model.input.size());
  for (uint32_t i = 0; i < model.output_count && i < kMaxOutputs; ++i) {
    border->outputs[i] = model.outputs[i];
    border->outputs[i].arena_offset = end;
    end = align(end + model.outputs[i].size());
  }
  border->model.outputs = border->outputs;
  border->model.arena_size = end;
}

Status check_run(const ModelInfo& model, const void* input, void* const* outputs, const uint8_t* arena) {
  if (!input || !outputs || !arena) return Status::InvalidArgument;
  if (reinterpret_cast<uintptr_t>(arena) % kArenaAlignment != 0) return Status::InvalidArgument;
  for (uint32_t i = 0; i < model.output_count; ++i) {
    if (!outputs[i]) return Status::InvalidArgument;
  }
  return Status::Ok;
}

}  // namespace espdl
}  // namespace uhd
