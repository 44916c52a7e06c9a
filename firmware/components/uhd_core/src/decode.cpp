#include "uhd/decode.hpp"

#include <string.h>

namespace uhd {
namespace {

// An output map of the head, read by cell and channel.
struct Map {
  const void* data = nullptr;
  uint32_t channels = 0;
  bool wide = false;  // int16_t

  int32_t at(uint32_t cell, uint32_t channel) const {
    const size_t i = static_cast<size_t>(cell) * channels + channel;
    return wide ? static_cast<const int16_t*>(data)[i] : static_cast<const int8_t*>(data)[i];
  }
};

Map map_of(const ModelInfo& model, const void* const* outputs, int8_t index) {
  if (index < 0) return {};
  const TensorInfo& info = model.outputs[index];
  return {outputs[index], info.channels, info.bytes == 2};
}

// `index` names an output of the grid's size with that many channels, whose width in bits fits the table's kind.
bool fits(const ModelInfo& model, int8_t index, uint32_t channels, uint8_t shift) {
  if (index < 0 || index >= model.output_count) return false;
  const TensorInfo& info = model.outputs[index];
  return info.height == model.decode->grid_h && info.width == model.decode->grid_w && info.channels == channels &&
         ((info.bytes == 1 && shift == 0) || (info.bytes == 2 && shift == 6));
}

bool factor_fits(const ModelInfo& model, const Table16& table, int8_t index, uint32_t channels) {
  return table.values == nullptr || fits(model, index, channels, table.shift);
}

struct Factors {
  Map obj, quality, cls;
};

// Best class of a cell and its score; the lower class wins a tie.
uint16_t score_cell(const DecodeSpec& spec, const Factors& maps, uint32_t cell, uint32_t anchor, uint8_t* cls) {
  uint32_t base = 65535;  // the neutral factor: q16_product(65535, b) == b
  if (spec.obj.values) base = table_at(spec.obj, maps.obj.at(cell, anchor));
  if (spec.quality.values) base = q16_product(base, table_at(spec.quality, maps.quality.at(cell, anchor)));
  *cls = 0;
  if (!spec.cls.values) return static_cast<uint16_t>(base);
  uint32_t best = 0;
  for (uint32_t k = 0; k < spec.class_count; k++) {
    const int32_t q = maps.cls.at(cell, anchor * spec.class_count + k);
    const uint32_t score = q16_product(base, table_at(spec.cls, q));
    if (score > best) {
      best = score;
      *cls = static_cast<uint8_t>(k);
    }
  }
  return static_cast<uint16_t>(best);
}

// Puts a row behind all rows of an equal or better score; the worst falls out of a full list.
size_t insert(Detection* rows, size_t count, size_t capacity, const Detection& row) {
  if (count == capacity) {
    if (rows[count - 1].score >= row.score) return count;
    count--;
  }
  size_t low = 0, high = count;
  while (low < high) {
    const size_t middle = (low + high) / 2;
    if (rows[middle].score >= row.score) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  memmove(rows + low + 1, rows + low, (count - low) * sizeof(Detection));
  rows[low] = row;
  return count + 1;
}

void place(const DecodeSpec& spec, const Map& box, Detection* row) {
  const uint32_t cells = static_cast<uint32_t>(spec.grid_h) * spec.grid_w;
  const uint32_t anchor = row->candidate / cells, cell = row->candidate % cells;
  const uint32_t gx = cell % spec.grid_w, gy = cell / spec.grid_w;
  const uint32_t x = table_at(spec.box_xy, box.at(cell, 4 * anchor));
  const uint32_t y = table_at(spec.box_xy, box.at(cell, 4 * anchor + 1));
  row->cx = static_cast<uint16_t>((x + gx * 65535 + spec.grid_w / 2) / spec.grid_w);
  row->cy = static_cast<uint16_t>((y + gy * 65535 + spec.grid_h / 2) / spec.grid_h);
  row->w = table_at(spec.box_wh[2 * anchor], box.at(cell, 4 * anchor + 2));
  row->h = table_at(spec.box_wh[2 * anchor + 1], box.at(cell, 4 * anchor + 3));
}

int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

// Length of what two intervals, given by centre and length, share. In half units, which keeps corners whole numbers.
int64_t common(uint16_t centre_a, uint32_t length_a, uint16_t centre_b, uint32_t length_b) {
  const int64_t a = 2 * static_cast<int64_t>(centre_a), b = 2 * static_cast<int64_t>(centre_b);
  const int64_t low = larger(a - length_a, b - length_b);
  const int64_t high = smaller(a + length_a, b + length_b);
  return larger(high - low, 0);
}

}  // namespace

Status check_decode(const ModelInfo& model) {
  const DecodeSpec* spec = model.decode;
  if (!spec) return Status::Unsupported;
  // 4096 cells a side keep gx * 65535 in 32 bits; 256 classes fit a byte.
  if (spec->anchor_count == 0 || spec->grid_h == 0 || spec->grid_w == 0 || spec->grid_h > 4096 || spec->grid_w > 4096 ||
      spec->class_count == 0 || spec->class_count > 256) {
    return Status::InvalidArgument;
  }
  const uint64_t candidates = static_cast<uint64_t>(spec->anchor_count) * spec->grid_h * spec->grid_w;
  if (candidates > 0xFFFFFFFFu || !spec->box_xy.values || !spec->box_wh) return Status::InvalidArgument;
  const uint32_t anchors = spec->anchor_count;
  bool good = fits(model, spec->box_output, 4 * anchors, spec->box_xy.shift);
  for (uint32_t i = 0; i < 2 * anchors; i++) {
    good = good && spec->box_wh[i].values && spec->box_wh[i].shift == spec->box_xy.shift;
  }
  good = good && (spec->obj.values || spec->quality.values || spec->cls.values) &&
         (spec->cls.values || spec->class_count == 1) && factor_fits(model, spec->obj, spec->obj_output, anchors) &&
         factor_fits(model, spec->quality, spec->quality_output, anchors) &&
         factor_fits(model, spec->cls, spec->cls_output, anchors * spec->class_count);
  return good ? Status::Ok : Status::InvalidArgument;
}

size_t decode(const ModelInfo& model, const void* const* outputs, const DecodeSettings& settings, Detection* rows,
              uint32_t* candidates) {
  const DecodeSpec& spec = *model.decode;
  const Factors maps = {map_of(model, outputs, spec.obj_output), map_of(model, outputs, spec.quality_output),
                        map_of(model, outputs, spec.cls_output)};
  const uint32_t cells = static_cast<uint32_t>(spec.grid_h) * spec.grid_w;
  size_t count = 0;
  *candidates = 0;
  Detection row = {};
  for (uint32_t anchor = 0; anchor < spec.anchor_count; anchor++) {
    for (uint32_t cell = 0; cell < cells; cell++) {
      row.score = score_cell(spec, maps, cell, anchor, &row.cls);
      row.candidate = anchor * cells + cell;
      if (row.score < settings.score_threshold_q16 || row.score == 0) continue;
      ++*candidates;
      if (settings.top_k != 0) count = insert(rows, count, settings.top_k, row);
    }
  }
  const Map box = map_of(model, outputs, spec.box_output);
  for (size_t i = 0; i < count; i++) place(spec, box, &rows[i]);
  return count;
}

bool overlaps(const Detection& a, const Detection& b, uint16_t nms_iou_q16) {
  // Areas in half units squared: widths are at most 2^18 units, so areas stay below 2^38 and products below 2^55.
  constexpr int64_t kEpsilon = 17179;  // 1e-6 * 131070^2
  const int64_t shared = common(a.cx, a.w, b.cx, b.w) * common(a.cy, a.h, b.cy, b.h);
  const int64_t sum = 4 * (static_cast<int64_t>(a.w) * a.h + static_cast<int64_t>(b.w) * b.h);
  return shared * 65535 >= nms_iou_q16 * (sum - shared + kEpsilon);
}

size_t suppress(Detection* rows, size_t count, uint16_t nms_iou_q16) {
  size_t kept = 0;
  for (size_t i = 0; i < count; i++) {
    bool keep = true;
    for (size_t j = 0; j < kept && keep; j++) {
      keep = rows[j].cls != rows[i].cls || !overlaps(rows[j], rows[i], nms_iou_q16);
    }
    if (keep) rows[kept++] = rows[i];
  }
  return kept;
}

}  // namespace uhd
