#include "uhd/preprocess.hpp"

#include <string.h>

namespace uhd {
namespace {

// i * source / target for i = 0, 1, ..., without a division each.
class Steps {
 public:
  Steps(uint32_t source, uint32_t target) : step_(source / target), rest_(source % target), target_(target) {}

  uint32_t next() {
    const uint32_t now = at_;
    at_ += step_;
    carry_ += rest_;
    if (carry_ >= target_) {
      carry_ -= target_;
      at_++;
    }
    return now;
  }

 private:
  uint32_t step_, rest_, target_;
  uint32_t at_ = 0, carry_ = 0;
};

// One row of network bytes from a row of YUYV.
using PickRow = void (*)(const uint8_t* from, uint32_t width, uint16_t out_width, uint8_t* to);

void pick_any(const uint8_t* from, uint32_t width, uint16_t out_width, uint8_t* to) {
  Steps steps(width, out_width);
  for (uint32_t x = 0; x < out_width; x++) {
    const uint32_t sx = steps.next();
    *to++ = from[2 * sx];
    *to++ = from[(4 * (sx / 2) + 1) | (x % 2 * 2)];
  }
}

// Pixel kX of a block where a step of 4 network pixels is one of kQuarters source pixels: all places are constants.
template <uint32_t kQuarters, uint32_t kX>
void pick_pixel(const uint8_t* from, uint8_t* to) {
  constexpr uint32_t kSource = kX * kQuarters / 4;
  to[2 * kX] = from[2 * kSource];
  to[2 * kX + 1] = from[4 * (kSource / 2) + 1 + kX % 2 * 2];
}

// In blocks of 8 network pixels, which are an even number of source pixels, so that every block looks the same.
template <uint32_t kQuarters>
void pick_blocks(const uint8_t* from, uint32_t, uint16_t out_width, uint8_t* to) {
  for (const uint8_t* const end = to + 2 * out_width; to != end; to += 16, from += 4 * kQuarters) {
    pick_pixel<kQuarters, 0>(from, to);
    pick_pixel<kQuarters, 1>(from, to);
    pick_pixel<kQuarters, 2>(from, to);
    pick_pixel<kQuarters, 3>(from, to);
    pick_pixel<kQuarters, 4>(from, to);
    pick_pixel<kQuarters, 5>(from, to);
    pick_pixel<kQuarters, 6>(from, to);
    pick_pixel<kQuarters, 7>(from, to);
  }
}

// The widths that cameras have, for the network's 64 pixels, get a function of their own.
PickRow picker(uint32_t width, uint16_t out_width) {
  if (out_width % 8 != 0) return pick_any;
  const uint64_t quarters = static_cast<uint64_t>(width) * 4;
  if (quarters == 15u * out_width) return pick_blocks<15>;  // 240
  if (quarters == 20u * out_width) return pick_blocks<20>;  // 320
  if (quarters == 40u * out_width) return pick_blocks<40>;  // 640
  return pick_any;
}

struct Rgb {
  int32_t r, g, b;

  int32_t weigh(int32_t by_r, int32_t by_g, int32_t by_b, int32_t offset) const {
    return (r * by_r + g * by_g + b * by_b + (offset << 14) + (1 << 13)) >> 14;
  }
  uint8_t luma() const { return static_cast<uint8_t>(weigh(4211, 8258, 1606, 16)); }
};

Rgb expand(uint32_t high, uint32_t low) {
  const uint32_t r = high >> 3, g = (high & 7) << 3 | low >> 5, b = low & 31;
  return {static_cast<int32_t>(r << 3 | r >> 2), static_cast<int32_t>(g << 2 | g >> 4),
          static_cast<int32_t>(b << 3 | b >> 2)};
}

// `high`: which of a pixel's two bytes holds the red bits.
[[gnu::noinline]] void pack_row(const uint8_t* from, uint32_t width, uint32_t high, uint16_t out_width, uint8_t* to) {
  Steps steps(width, out_width);
  for (uint32_t x = 1; x < out_width; x += 2) {
    const uint8_t* const first = from + 2 * steps.next();
    const uint8_t* const second = from + 2 * steps.next();
    const Rgb a = expand(first[high], first[1 - high]), b = expand(second[high], second[1 - high]);
    const Rgb both = {a.r + b.r, a.g + b.g, a.b + b.b};
    *to++ = a.luma();
    *to++ = static_cast<uint8_t>(both.weigh(-1212, -2384, 3596, 128));
    *to++ = b.luma();
    *to++ = static_cast<uint8_t>(both.weigh(3596, -3015, -582, 128));
  }
}

bool aligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % sizeof(uint32_t) == 0; }

// Whether table[v] is v * 128 / 255, rounded, for all v: half of v, rounded up, but 127 for 255. That is the table of
// every int8 model whose input exponent is -7.
bool halves(const int16_t* table) {
  for (int v = 0; v < 255; v += 2) {
    if (table[v] != v / 2 || (table[v + 1] != v / 2 + 1 && v != 254)) return false;
  }
  return table[255] == 127;
}

// table[v] for four values at once, if halves(table). No borrow leaves its byte.
void halve_four(const void* from, void* to) {
  uint32_t v;
  memcpy(&v, __builtin_assume_aligned(from, sizeof(v)), sizeof(v));
  v -= v >> 1 & 0x7F7F7F7F;
  v -= v >> 7 & 0x01010101;  // 128 becomes 127
  memcpy(__builtin_assume_aligned(to, sizeof(v)), &v, sizeof(v));
}

// Network bytes to the model's integers. int8: `bytes` may be the place of the integers; int16: its second half.
void map(const NetworkSink& sink, const uint8_t* bytes, size_t count) {
  if (sink.bytes == 2) {
    int16_t* const integers = static_cast<int16_t*>(sink.integers);
    for (size_t i = 0; i < count; i++) integers[i] = sink.table[bytes[i]];
    return;
  }
  uint8_t* const integers = static_cast<uint8_t*>(sink.integers);
  size_t i = 0;
  if (aligned(bytes) && aligned(integers) && halves(sink.table)) {
    for (; count - i >= 16; i += 16) {
      halve_four(bytes + i, integers + i);
      halve_four(bytes + i + 4, integers + i + 4);
      halve_four(bytes + i + 8, integers + i + 8);
      halve_four(bytes + i + 12, integers + i + 12);
    }
  }
  for (; i < count; i++) integers[i] = static_cast<uint8_t>(sink.table[bytes[i]]);
}

}  // namespace

Status check_camera(const CameraPicture& picture, uint32_t total) {
  if (picture.width == 0 || picture.width % 2 != 0 || picture.height == 0) return Status::InvalidArgument;
  const uint64_t row = 2 * static_cast<uint64_t>(picture.width);
  if (picture.stride < row) return Status::InvalidArgument;
  const uint64_t needed = static_cast<uint64_t>(picture.stride) * (picture.height - 1) + row;
  return total < needed ? Status::InvalidArgument : Status::Ok;
}

void camera_picture(const CameraPicture& picture, PixelFormat format, uint16_t out_width, uint16_t out_height,
                    const uint8_t* data, const NetworkSink& sink) {
  const size_t row_size = 2 * static_cast<size_t>(out_width), count = row_size * out_height;
  // Without a copy the bytes go where the integers will be, so that reading is always ahead of writing.
  uint8_t* bytes = sink.copy;
  if (!bytes) {
    if (!sink.integers) return;
    bytes = static_cast<uint8_t*>(sink.integers) + (sink.bytes == 2 ? count : 0);
  }
  Steps steps(picture.height, out_height);
  const PickRow pick = picker(picture.width, out_width);
  const uint32_t high = format == PixelFormat::kRgb565Le ? 1 : 0;
  for (uint8_t* to = bytes; to != bytes + count; to += row_size) {
    const uint8_t* const from = data + static_cast<size_t>(steps.next()) * picture.stride;
    if (format == PixelFormat::kYuyv) {
      pick(from, picture.width, out_width, to);
    } else {
      pack_row(from, picture.width, high, out_width, to);
    }
  }
  if (sink.integers) map(sink, bytes, count);
}

}  // namespace uhd
