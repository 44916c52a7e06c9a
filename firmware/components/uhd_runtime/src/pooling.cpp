// Operators that gather a neighbourhood or the whole map.
#include "arithmetic.hpp"

namespace uhd::nn {
namespace {

// Largest of `count` > 0 values, `step` elements apart.
template <typename T>
UHD_INLINE T largest(const T* p, uint32_t step, uint32_t count) {
  int32_t best = *p;
  const auto take = [&] {
    p += step;
    const int32_t v = *p;
    best = v > best ? v : best;
  };
  // NOLINTBEGIN(bugprone-branch-clone): each case takes one value more and falls into the next
  switch (count) {
    default:
      for (uint32_t i = 5; i < count; i++) take();
      [[fallthrough]];
    case 5:
      take();
      [[fallthrough]];
    case 4:
      take();
      [[fallthrough]];
    case 3:
      take();
      [[fallthrough]];
    case 2:
      take();
      [[fallthrough]];
    case 1:
      break;
  }
  // NOLINTEND(bugprone-branch-clone)
  return static_cast<T>(best);
}

// The part of a window that lies inside the input: positions first, first + dilation, ...
struct Span {
  uint32_t first, count;
};
inline Span clip(uint32_t out, uint32_t stride, uint32_t pad, uint32_t kernel, uint32_t dilation, uint32_t size) {
  const uint32_t start = out * stride;
  const uint32_t skipped = start < pad ? (pad - start + dilation - 1) / dilation : 0;
  const uint32_t first = start + skipped * dilation - pad;
  const uint32_t room = first < size ? (size - first + dilation - 1) / dilation : 0;
  const uint32_t rest = kernel > skipped ? kernel - skipped : 0;
  return {first, rest < room ? rest : room};
}

}  // namespace

// A channel at a time: rows into the scratch plane, then its columns.
template <typename T>
void max_pool(const Window& w, const T* in, T* out, T* scratch) {
  constexpr T kLowest = sizeof(T) == 1 ? static_cast<T>(-128) : static_cast<T>(-32768);
  const uint32_t channels = w.in_c, line = w.in_w * channels, step = w.dilation_w * channels, width = w.out_w;
  for (uint32_t c = 0; c < channels; c++) {
    for (uint32_t ox = 0; ox < width; ox++) {
      const Span span = clip(ox, w.stride_w, w.pad_left, w.kernel_w, w.dilation_w, w.in_w);
      const T* from = in + c + span.first * channels;
      T* to = scratch + ox;
      for (uint32_t y = 0; y < w.in_h; y++, from += line, to += width)
        *to = span.count ? largest(from, step, span.count) : kLowest;
    }
    T* to = out + c;
    for (uint32_t oy = 0; oy < w.out_h; oy++) {
      const Span span = clip(oy, w.stride_h, w.pad_top, w.kernel_h, w.dilation_h, w.in_h);
      const T* from = scratch + span.first * width;
      for (uint32_t ox = 0; ox < width; ox++, from++, to += channels)
        *to = span.count ? largest(from, w.dilation_h * width, span.count) : kLowest;
    }
  }
}

template <typename T, typename R>
void spatial_mean(const Mean& op, const T* in, T* out) {
  constexpr int64_t kHighest = sizeof(T) == 1 ? 127 : 32767;
  const int64_t divisor = op.denominator * op.pixels;
  for (uint32_t c = 0; c < op.channels; c++) {
    int64_t sum = 0;
    for (uint32_t p = 0; p < op.pixels; p++) sum += in[p * op.channels + c];
    const int64_t n = sum * op.numerator;
    int64_t y = n / divisor, rest = n % divisor;  // NOLINT(clang-analyzer-core*): pixels and denominator are positive
    if (rest < 0) {
      y--;
      rest += divisor;
    }
    const int64_t twice = 2 * rest;
    if (twice > divisor || (twice == divisor && (!kHalfEven<R> || (y & 1)))) y++;
    out[c] = static_cast<T>(y < -kHighest - 1 ? -kHighest - 1 : y > kHighest ? kHighest : y);
  }
}

template void max_pool<int8_t>(const Window&, const int8_t*, int8_t*, int8_t*);
template void max_pool<int16_t>(const Window&, const int16_t*, int16_t*, int16_t*);

#define UHD_MEAN(T, R) template void spatial_mean<T, R>(const Mean&, const T*, T*);
UHD_MEAN(int8_t, HalfUp)
UHD_MEAN(int8_t, HalfEven)
UHD_MEAN(int16_t, HalfUp)
UHD_MEAN(int16_t, HalfEven)

}  // namespace uhd::nn
