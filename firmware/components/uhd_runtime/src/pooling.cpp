// Operators that gather a neighbourhood or the whole map.
#include "arithmetic.hpp"

namespace uhd::nn {
namespace {

// Largest of the values start, start + stride, ... that lie inside [0, size), `count` of them at most.
template <typename T>
UHD_INLINE T largest(const T* line, uint32_t pitch, int32_t start, uint32_t count, uint32_t stride, uint32_t size) {
  T best = sizeof(T) == 1 ? static_cast<T>(-128) : static_cast<T>(-32768);
  for (uint32_t k = 0; k < count; k++, start += static_cast<int32_t>(stride)) {
    if (static_cast<uint32_t>(start) >= size) continue;
    const T v = line[static_cast<uint32_t>(start) * pitch];
    best = v > best ? v : best;
  }
  return best;
}

}  // namespace

// A channel at a time: rows into the scratch plane, then its columns.
template <typename T>
void max_pool(const Window& w, const T* in, T* out, T* scratch) {
  const uint32_t line = uint32_t{w.in_w} * w.in_c;
  for (uint32_t c = 0; c < w.in_c; c++) {
    T* to = scratch;
    for (uint32_t y = 0; y < w.in_h; y++) {
      for (uint32_t ox = 0; ox < w.out_w; ox++) {
        const int32_t start = static_cast<int32_t>(ox * w.stride_w) - w.pad_left;
        *to++ = largest(in + y * line + c, w.in_c, start, w.kernel_w, w.dilation_w, w.in_w);
      }
    }
    T* result = out + c;
    for (uint32_t oy = 0; oy < w.out_h; oy++) {
      const int32_t start = static_cast<int32_t>(oy * w.stride_h) - w.pad_top;
      for (uint32_t ox = 0; ox < w.out_w; ox++, result += w.in_c)
        *result = largest(scratch + ox, w.out_w, start, w.kernel_h, w.dilation_h, w.in_h);
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
    int64_t y = n / divisor, rest = n % divisor;
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
