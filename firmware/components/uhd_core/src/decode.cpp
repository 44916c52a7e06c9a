#include "uhd/decode.hpp"

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

// Best first: the higher score, then the lower candidate.
bool better(const Detection& a, const Detection& b) {
  return a.score != b.score ? a.score > b.score : a.candidate < b.candidate;
}

// Restores the heap below `root`, where no row is better than its children: the worst row is on top.
void sift_down(Detection* heap, size_t count, size_t root) {
  const Detection row = heap[root];
  for (;;) {
    size_t child = 2 * root + 1;
    if (child >= count) break;
    if (child + 1 < count && better(heap[child], heap[child + 1])) child++;
    if (!better(row, heap[child])) break;
    heap[root] = heap[child];
    root = child;
  }
  heap[root] = row;
}

// The best `capacity` rows of a stream, in memory for just as many.
class Best {
 public:
  Best(Detection* rows, size_t capacity) : rows_(rows), capacity_(capacity) {}

  void offer(const Detection& row) {
    if (count_ < capacity_) {
      rows_[count_++] = row;
      if (count_ == capacity_) make_heap();
    } else if (capacity_ != 0 && better(row, rows_[0])) {
      rows_[0] = row;
      sift_down(rows_, count_, 0);
    }
  }

  // Puts the rows in order; returns how many there are.
  size_t sort() {
    if (count_ < capacity_) make_heap();
    for (size_t left = count_; left > 1; left--) {
      const Detection worst = rows_[0];
      rows_[0] = rows_[left - 1];
      rows_[left - 1] = worst;
      sift_down(rows_, left - 1, 0);
    }
    return count_;
  }

 private:
  void make_heap() {
    for (size_t root = count_ / 2; root > 0; root--) sift_down(rows_, count_, root - 1);
  }

  Detection* rows_;
  size_t capacity_;
  size_t count_ = 0;
};

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

// Length of what two intervals, given by centre and length, share. In half units, which keeps corners whole numbers.
int32_t common(uint16_t centre_a, uint32_t length_a, uint16_t centre_b, uint32_t length_b) {
  const int32_t a = 2 * centre_a, b = 2 * centre_b;
  const int32_t half_a = static_cast<int32_t>(length_a), half_b = static_cast<int32_t>(length_b);
  const int32_t low = a - half_a > b - half_b ? a - half_a : b - half_b;
  const int32_t high = a + half_a < b + half_b ? a + half_a : b + half_b;
  return high > low ? high - low : 0;
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
  Best best(rows, settings.top_k);
  *candidates = 0;
  Detection row = {};
  for (uint32_t anchor = 0; anchor < spec.anchor_count; anchor++) {
    for (uint32_t cell = 0; cell < cells; cell++) {
      row.score = score_cell(spec, maps, cell, anchor, &row.cls);
      row.candidate = anchor * cells + cell;
      if (row.score < settings.score_threshold_q16 || row.score == 0) continue;
      ++*candidates;
      best.offer(row);
    }
  }
  const size_t count = best.sort();
  const Map box = map_of(model, outputs, spec.box_output);
  for (size_t i = 0; i < count; i++) place(spec, box, &rows[i]);
  return count;
}

bool overlaps(const Detection& a, const Detection& b, uint16_t nms_iou_q16) {
  // Areas in half units squared: widths are at most 2^18 units, so areas stay below 2^38 and products below 2^55.
  constexpr int64_t kEpsilon = 17179;  // 1e-6 * 131070^2
  const int32_t width = common(a.cx, a.w, b.cx, b.w);
  const int32_t height = width ? common(a.cy, a.h, b.cy, b.h) : 0;
  if (height == 0) return nms_iou_q16 == 0;  // most pairs, and cheap
  const int64_t shared = static_cast<int64_t>(width) * height;
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
