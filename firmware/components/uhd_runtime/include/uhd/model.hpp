// The interface between generated model code (component uhd_model) and everything that runs a model.
#pragma once

#include <stdint.h>

#include "uhd/status.hpp"

namespace uhd {

// One activation at the model's border. NHWC, batch 1; real value = q * 2^exponent.
struct TensorInfo {
  const char* name;
  uint16_t height, width, channels;
  uint8_t bytes;  // of one element: 1 (int8_t) or 2 (int16_t)
  int8_t exponent;
  uint32_t arena_offset;  // where in the arena this tensor may live, see model_run

  constexpr uint32_t elements() const { return uint32_t{height} * width * channels; }
  constexpr uint32_t size() const { return elements() * bytes; }  // in bytes
};

// A function of one quantized output value q, tabulated by codegen. `values` is null for an absent table.
//   shift 0: q is int8,  256 entries:  f(q) = values[q + 128]
//   shift 6: q is int16, 1025 knots:   f(q) = v[i] + (((v[i+1] - v[i]) * frac + 32) >> 6)
//            with u = q + 32768, i = u >> 6, frac = u & 63; signed product (64 bits in Table32), arithmetic shift.
// The knots are f at q = -32768, -32704, ..., 32704, 32768.
struct Table16 {
  const uint16_t* values;
  uint8_t shift;
};
struct Table32 {
  const uint32_t* values;
  uint8_t shift;
};

constexpr uint32_t table_at(const Table16& table, int32_t q) {
  if (table.shift == 0) return table.values[q + 128];
  const uint32_t u = static_cast<uint32_t>(q + 32768);
  const uint32_t i = u >> table.shift;
  const int32_t low = table.values[i];
  const int32_t frac = static_cast<int32_t>(u & ((1u << table.shift) - 1u));
  const int32_t step = (table.values[i + 1] - low) * frac + (1 << (table.shift - 1));
  return static_cast<uint32_t>(low + (step >> table.shift));
}

constexpr uint32_t table_at(const Table32& table, int32_t q) {
  if (table.shift == 0) return table.values[q + 128];
  const uint32_t u = static_cast<uint32_t>(q + 32768);
  const uint32_t i = u >> table.shift;
  const int64_t low = table.values[i];
  const int64_t frac = static_cast<int64_t>(u & ((1u << table.shift) - 1u));
  const int64_t step = (static_cast<int64_t>(table.values[i + 1]) - low) * frac + (1 << (table.shift - 1));
  return static_cast<uint32_t>(low + (step >> table.shift));
}

// How the anchor head's maps become boxes. Candidates: anchor a, row gy, column gx; numbered (a*grid_h + gy)*grid_w +
// gx. Maps are NHWC; channel of anchor a: box 4a+{0: tx, 1: ty, 2: tw, 3: th}; obj a; quality a; cls a*class_count + k.
// All results are in units of 1/65535 ("q16") of the network input or of score 1.
//   cx = (box_xy(tx) + gx*65535 + grid_w/2) / grid_w     cy = (box_xy(ty) + gy*65535 + grid_h/2) / grid_h
//   w  = box_wh[2a](tw)                                  h  = box_wh[2a + 1](th)
//   score of class k = the product of the factors whose table is present, in the order obj, quality, cls:
//     start with the first one; then s = q16_product(s, factor).
// Tables (rounded to nearest):
//   box_xy        65535 * sigmoid(q * 2^e)
//   box_wh[2a+i]  65535 * anchor[a][i] * wh_scale[a][i] * softplus(q * 2^e), at most 4*65535
//   obj, cls      65535 * sigmoid(q * 2^e)               quality: 65535 * sigmoid(q * 2^e)^quality_power
// Which factors count is the manifest's score mode; a map that is there but not multiplied has a null table.
struct DecodeSpec {
  uint16_t anchor_count;
  uint16_t class_count;  // columns of the score: the classes if cls.values is set, otherwise 1 (class 0)
  uint16_t grid_h, grid_w;
  uint16_t top_k;                                             // candidates kept before NMS, best first
  int8_t box_output, obj_output, quality_output, cls_output;  // index into outputs; -1 absent
  uint16_t score_threshold_q16;
  uint16_t nms_iou_q16;
  Table16 box_xy;
  const Table32* box_wh;  // [anchor_count * 2], anchor-major, width before height
  Table16 obj, quality, cls;
};

// round(a * b / 65535), exact, for a, b in 0..65535.
constexpr uint32_t q16_product(uint32_t a, uint32_t b) {
  const uint32_t t = a * b + 32768u;
  return (t + (t >> 16)) >> 16;
}

struct ModelInfo {
  const char* name;
  const char* variant;   // "" when it is none of the published variants
  const char* target;    // whose arithmetic: c, esp32s3 or esp32p4
  const uint8_t* espdl;  // the embedded .espdl, 16-byte aligned; null when it is not embedded
  uint32_t espdl_size;
  const uint8_t* hash;  // [32] SHA-256 of the .espdl
  uint32_t arena_size;  // bytes
  TensorInfo input;
  const TensorInfo* outputs;
  uint8_t output_count;
  const int16_t* input_table;  // [256] network input value v (0..255, meaning v/255) -> integer of the input tensor
  const DecodeSpec* decode;    // null: the outputs are not the maps of an anchor head
};

constexpr uint32_t kArenaAlignment = 16;

// Counts changes of this header and of kernels.hpp that generated code would not survive; generated code asserts it.
constexpr uint32_t kModelInterface = 1;

// Both are defined by generated code.
const ModelInfo& model_info();

// Runs the network once.
//   input    the input tensor's integers; anywhere, or at arena + input.arena_offset, where it is overwritten
//   outputs  output_count buffers of outputs[i].size() bytes; each anywhere outside the arena, or exactly at
//            arena + outputs[i].arena_offset: the memory plan keeps both places free for as long as needed, so that
//            arena_size bytes are all the activation memory there is
//   arena    arena_size bytes, aligned to kArenaAlignment; contents before and after mean nothing
// int16 buffers are aligned to 2 bytes. Returns InvalidArgument for a null pointer or a misaligned arena.
Status model_run(const void* input, void* const* outputs, uint8_t* arena);

}  // namespace uhd
