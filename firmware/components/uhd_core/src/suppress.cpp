#include "uhd/decode.hpp"

// Suppression: each box against the better ones that were kept.

namespace uhd {
namespace {

// A box that is compared with many. Edges are in half units, which keeps them whole numbers. A limit of 0 is reached
// even by boxes that lie apart, so then nothing lies beyond the edges.
struct Rival {
  int32_t left, right, top, bottom;
  int32_t least_width, least_height;  // what must be shared for the limit, were the other box no larger; rounded down
  int64_t area;                       // in half units squared: below 2^38, for widths are at most 2^18 units
  uint32_t nms_iou_q16;

  Rival(const Detection& row, uint16_t nms)
      : left(nms ? 2 * row.cx - static_cast<int32_t>(row.w) : INT32_MIN),
        right(nms ? 2 * row.cx + static_cast<int32_t>(row.w) : INT32_MAX),
        top(nms ? 2 * row.cy - static_cast<int32_t>(row.h) : INT32_MIN),
        bottom(nms ? 2 * row.cy + static_cast<int32_t>(row.h) : INT32_MAX),
        least_width(static_cast<int32_t>(static_cast<uint64_t>(row.w) * nms >> 15)),
        least_height(static_cast<int32_t>(static_cast<uint64_t>(row.h) * nms >> 15)),
        area(4 * static_cast<int64_t>(row.w) * row.h),
        nms_iou_q16(nms) {}

  // Whether the limit of suppress() is reached. Most pairs lie apart, which is cheap to see.
  bool overlaps(const Detection& row) const {
    const int32_t x = 2 * row.cx, y = 2 * row.cy, w = static_cast<int32_t>(row.w), h = static_cast<int32_t>(row.h);
    const int32_t its_left = x - w, its_right = x + w, its_top = y - h, its_bottom = y + h;
    if (its_left >= right || its_right <= left || its_top >= bottom || its_bottom <= top) return false;
    const int32_t width = (its_right < right ? its_right : right) - (its_left > left ? its_left : left);
    if (width < least_width) return false;
    const int32_t height = (its_bottom < bottom ? its_bottom : bottom) - (its_top > top ? its_top : top);
    if (height < least_height) return false;
    // shared / (sum - shared + 1e-6) >= nms / 65535, without a division: both sides are below 2^56.
    constexpr int64_t kEpsilon = 17179;  // 1e-6 * 131070^2
    const int64_t shared = static_cast<int64_t>(width) * height;
    const int64_t sum = area + 4 * static_cast<int64_t>(w) * h;
    return shared * (65535 + nms_iou_q16) >= nms_iou_q16 * (sum + kEpsilon);
  }
};

}  // namespace

size_t suppress(Detection* rows, size_t count, uint16_t nms_iou_q16) {
  size_t kept = 0;
  for (size_t i = 0; i < count; i++) {
    const Rival rival(rows[i], nms_iou_q16);
    const uint8_t cls = rows[i].cls;
    bool keep = true;
    for (const Detection* better = rows; better != rows + kept && keep; better++) {
      keep = !rival.overlaps(*better) || better->cls != cls;
    }
    if (keep) rows[kept++] = rows[i];
  }
  return kept;
}

}  // namespace uhd
