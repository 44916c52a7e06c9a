#include "uhd/decode.hpp"

#include <string.h>

namespace uhd {
namespace {

constexpr uint32_t kMaxCandidates = 65536;

// An output map of the head.
struct Map {
  const void* data = nullptr;
  bool wide = false;  // int16_t
};

Map map_of(const ModelInfo& model, const void* const* outputs, int8_t index) {
  if (index < 0) return {};
  return {outputs[index], model.outputs[index].bytes == 2};
}

// f(q) of element i of an int16_t map. Apart from value_at, which is called in many places.
template <typename Table>
[[gnu::noinline]] uint32_t wide_value_at(const Table& table, const Map& map, size_t i) {
  return table_at(table, static_cast<const int16_t*>(map.data)[i]);
}

// f(q) of element i. fits() has seen to it that a table interpolates if and only if its map is int16_t.
template <typename Table>
[[gnu::always_inline]] inline uint32_t value_at(const Table& table, const Map& map, size_t i) {
  return map.wide ? wide_value_at(table, map, i) : table.values[static_cast<const int8_t*>(map.data)[i] + 128];
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

struct Factor {
  const Table16* table;
  Map map;
};

// Scores are computed cell by cell in blocks of this many, factor by factor: each loop has few things to remember.
constexpr uint32_t kBlock = 64;

// Multiplies `scores` by a factor whose elements begin at i and are `step` apart, or sets them to it if it is the
// `first`. What is below `least` stays below, since no product exceeds its factors, and is passed over.
[[gnu::noinline]] void multiply(const Table16& table, const Map& map, size_t i, size_t step, bool first,
                                uint32_t least, uint16_t* scores, uint32_t count) {
  uint16_t* const end = scores + count;
  if (map.wide) {
    for (; scores != end; scores++, i += step) {
      if (first) *scores = 65535;  // the neutral factor: q16_product(65535, b) == b
      if (*scores >= least) *scores = static_cast<uint16_t>(q16_product(*scores, value_at(table, map, i)));
    }
    return;
  }
  const uint16_t* const values = table.values + 128;
  const int8_t* q = static_cast<const int8_t*>(map.data) + i;
  if (first) {
    for (; scores != end; scores++, q += step) *scores = values[*q];
    return;
  }
  for (; scores != end; scores++, q += step) {
    if (*scores >= least) *scores = static_cast<uint16_t>(q16_product(*scores, values[*q]));
  }
}

// Best class of the candidate whose classes begin at element i, and its score; the lower class wins a tie.
[[gnu::noinline]] uint32_t best_class(const DecodeSpec& spec, const Map& map, size_t i, uint32_t base, uint8_t* cls) {
  uint32_t best = 0;
  *cls = 0;
  for (uint32_t k = 0; k < spec.class_count; k++) {
    const uint32_t score = q16_product(base, value_at(spec.cls, map, i + k));
    if (score > best) {
      best = score;
      *cls = static_cast<uint8_t>(k);
    }
  }
  return best;
}

// Restores the heap below `root`, where no row's rank is above its children's: the worst row is on top. Only ranks and
// classes are moved, the rest is not there yet.
void sift_down(Detection* heap, const Detection* end, Detection* root) {
  const uint32_t rank = root->rank;
  const uint8_t cls = root->cls;
  for (;;) {
    Detection* child = root + (root - heap + 1);
    if (child >= end) break;
    uint32_t least = child->rank;
    if (child + 1 < end && child[1].rank < least) least = (++child)->rank;
    if (least >= rank) break;
    root->rank = least;
    root->cls = child->cls;
    root = child;
  }
  root->rank = rank;
  root->cls = cls;
}

// The best `capacity` rows of a stream, in memory for just as many.
class Best {
 public:
  Best(Detection* rows, size_t capacity) : rows_(rows), capacity_(capacity) {}

  [[gnu::noinline]] void offer(uint32_t rank, uint8_t cls) {
    if (count_ < capacity_) {
      rows_[count_].rank = rank;
      rows_[count_].cls = cls;
      if (++count_ == capacity_) make_heap();
    } else if (capacity_ != 0 && rank > rows_[0].rank) {
      rows_[0].rank = rank;
      rows_[0].cls = cls;
      sift_down(rows_, rows_ + count_, rows_);
    }
  }

  // Puts the rows in order; returns how many there are.
  size_t sort() {
    if (count_ < capacity_) make_heap();
    for (Detection* last = rows_ + count_; last-- > rows_ + 1;) {
      const uint32_t rank = rows_[0].rank;
      const uint8_t cls = rows_[0].cls;
      rows_[0].rank = last->rank;
      rows_[0].cls = last->cls;
      last->rank = rank;
      last->cls = cls;
      sift_down(rows_, last, rows_);
    }
    return count_;
  }

 private:
  void make_heap() {
    for (Detection* root = rows_ + count_ / 2; root-- > rows_;) sift_down(rows_, rows_ + count_, root);
  }

  Detection* rows_;
  size_t capacity_;
  size_t count_ = 0;
};

void place(const DecodeSpec& spec, const Map& box, Detection* row) {
  const uint32_t cells = static_cast<uint32_t>(spec.grid_h) * spec.grid_w, grid_w = spec.grid_w, grid_h = spec.grid_h;
  const uint32_t candidate = kMaxCandidates - 1 - (row->rank & 0xFFFF);
  const uint32_t anchor = candidate / cells, cell = candidate % cells;
  const uint32_t gx = cell % grid_w, gy = cell / grid_w;
  const size_t i = 4 * (static_cast<size_t>(cell) * spec.anchor_count + anchor);
  const uint32_t x = value_at(spec.box_xy, box, i), y = value_at(spec.box_xy, box, i + 1);
  row->score = static_cast<uint16_t>(row->rank >> 16);
  row->cx = static_cast<uint16_t>((x + gx * 65535 + grid_w / 2) / grid_w);
  row->cy = static_cast<uint16_t>((y + gy * 65535 + grid_h / 2) / grid_h);
  row->w = value_at(spec.box_wh[2 * anchor], box, i + 2);
  row->h = value_at(spec.box_wh[2 * anchor + 1], box, i + 3);
}

}  // namespace

Status check_decode(const ModelInfo& model) {
  const DecodeSpec* spec = model.decode;
  if (!spec) return Status::Unsupported;
  // 4096 cells a side keep gx * 65535 in 32 bits; 256 classes fit a byte; a candidate's number fits half a rank.
  if (spec->anchor_count == 0 || spec->grid_h == 0 || spec->grid_w == 0 || spec->grid_h > 4096 || spec->grid_w > 4096 ||
      spec->class_count == 0 || spec->class_count > 256) {
    return Status::InvalidArgument;
  }
  const uint64_t candidates = static_cast<uint64_t>(spec->anchor_count) * spec->grid_h * spec->grid_w;
  if (candidates > kMaxCandidates || !spec->box_xy.values || !spec->box_wh) return Status::InvalidArgument;
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
  const Map cls = map_of(model, outputs, spec.cls_output), box = map_of(model, outputs, spec.box_output);
  // The factors that have one value an anchor. Of more classes than one the best comes in at the end.
  const uint32_t classes = spec.cls.values ? spec.class_count : 0;
  Factor factors[3];
  uint32_t factor_count = 0;
  if (spec.obj.values) factors[factor_count++] = {&spec.obj, map_of(model, outputs, spec.obj_output)};
  if (spec.quality.values) factors[factor_count++] = {&spec.quality, map_of(model, outputs, spec.quality_output)};
  if (classes == 1) factors[factor_count++] = {&spec.cls, cls};
  const uint32_t cells = static_cast<uint32_t>(spec.grid_h) * spec.grid_w;
  const uint32_t least = settings.score_threshold_q16 ? settings.score_threshold_q16 : 1;
  Best best(rows, settings.top_k);
  *candidates = 0;
  for (uint32_t anchor = 0; anchor < spec.anchor_count; anchor++) {
    for (uint32_t first = 0; first < cells; first += kBlock) {
      const uint32_t count = cells - first < kBlock ? cells - first : kBlock;
      uint16_t scores[kBlock];
      const size_t step = spec.anchor_count, i = first * step + anchor;
      for (uint32_t f = 0; f < factor_count; f++) {
        multiply(*factors[f].table, factors[f].map, i, step, f == 0, least, scores, count);
      }
      if (factor_count == 0) memset(scores, 0xFF, sizeof(scores));
      for (uint32_t k = 0; k < count; k++) {
        uint32_t score = scores[k];
        if (score < least) continue;
        uint8_t best_cls = 0;
        if (classes > 1) score = best_class(spec, cls, (i + k * step) * classes, score, &best_cls);
        if (score < least) continue;
        ++*candidates;
        best.offer(score << 16 | (kMaxCandidates - 1 - (anchor * cells + first + k)), best_cls);
      }
    }
  }
  const size_t count = best.sort();
  for (size_t i = 0; i < count; i++) place(spec, box, &rows[i]);
  return count;
}

}  // namespace uhd
