// From the anchor head's integer maps to boxes: the formulas of DecodeSpec (uhd/model.hpp), then greedy suppression.
// Integers only, so that every machine finds the same boxes.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "uhd/model.hpp"
#include "uhd/status.hpp"

namespace uhd {

// Units of 1/65535 of the network input, and of score 1. Not clipped.
struct Detection {
  uint32_t rank;  // score in the upper half, 65535 - candidate in the lower: the higher one comes first
  uint32_t w, h;
  uint16_t cx, cy;
  uint16_t score;
  uint8_t cls;
};

struct DecodeSettings {
  uint16_t score_threshold_q16;  // keeps score >= this; 0 keeps score > 0
  uint16_t nms_iou_q16;
  uint16_t top_k;  // candidates that enter suppression, best first, equal scores in candidate order
};

// Candidates are numbered (anchor * grid_h + row) * grid_w + column; there may be 65536 of them.

// Ok if the tables and maps fit each other and the outputs: what decode() relies on. Unsupported without a DecodeSpec.
Status check_decode(const ModelInfo& model);

// Fills `rows` (room for top_k) with the best candidates, best first, equal scores in candidate order; returns how
// many. `outputs` are the model's integers in the order of model.outputs. `candidates` counts all above the threshold.
// Requires check_decode() == Ok.
size_t decode(const ModelInfo& model, const void* const* outputs, const DecodeSettings& settings, Detection* rows,
              uint32_t* candidates);

// Greedy suppression per class in place; `rows` best first. A row goes if its IoU with a better one that stays is at
// least nms_iou_q16 / 65535, with IoU = intersection / (union + 1e-6) in pictures, exactly. Returns how many remain,
// order kept.
size_t suppress(Detection* rows, size_t count, uint16_t nms_iou_q16);

}  // namespace uhd
