// Where the pixels under a kernel tap lie, for a block of output pixels.
#pragma once

#include "arithmetic.hpp"

namespace uhd::nn {

// A run of channels to read: `step` is 1, or 0 for a pixel in the padding, which reads the same zero again and again.
template <typename T>
struct Source {
  const T* at;
  uint32_t step;
};

template <typename T>
inline constexpr T kZero = 0;

template <typename T>
inline Source<T> locate(const Window& w, const T* in, uint32_t pixel, uint32_t ky, uint32_t kx) {
  const uint32_t oy = pixel / w.out_w, ox = pixel % w.out_w;
  const uint32_t iy = oy * w.stride_h + ky * w.dilation_h - w.pad_top;  // wraps to a large number above the input
  const uint32_t ix = ox * w.stride_w + kx * w.dilation_w - w.pad_left;
  if (iy >= w.in_h || ix >= w.in_w) return {&kZero<T>, 0};
  return {in + (iy * w.in_w + ix) * w.in_c, 1};
}

// Two pixels a word, four words apart.
inline void interleave(const int8_t* low, uint32_t low_step, const int8_t* high, uint32_t high_step, uint32_t count,
                       uint32_t* to) {
  for (uint32_t c = 0; c < count; c++) {
    *to = static_cast<uint32_t>(*low) + (static_cast<uint32_t>(*high) << 16);
    low += low_step;
    high += high_step;
    to += 4;
  }
}

// One pixel a word, four words apart.
inline void spread(const int16_t* from, uint32_t step, uint32_t count, uint32_t* to) {
  for (uint32_t c = 0; c < count; c++) {
    *to = static_cast<uint32_t>(*from);
    from += step;
    to += 4;
  }
}

inline bool is_pointwise(const Window& w) {
  return w.kernel_h * w.kernel_w == 1 && w.stride_h * w.stride_w == 1 && w.pad_top + w.pad_left == 0;
}

// Packs output pixels [first, first + 8) (int8_t) or [first, first + 4) (int16_t): word 4*k + j holds product k of pixel
// j, and of pixel j + 4 above it. Pixels from `last` on repeat the last one.
template <typename T>
inline void gather(const Window& w, const T* in, uint32_t first, uint32_t last, uint32_t* to) {
  const bool pointwise = is_pointwise(w);
  const auto source = [&](uint32_t pixel, uint32_t ky, uint32_t kx) {
    pixel = pixel < last ? pixel : last;
    return pointwise ? Source<T>{in + pixel * w.in_c, 1} : locate(w, in, pixel, ky, kx);
  };
  for (uint32_t ky = 0; ky < w.kernel_h; ky++) {
    for (uint32_t kx = 0; kx < w.kernel_w; kx++) {
      for (uint32_t j = 0; j < 4; j++) {
        const Source<T> a = source(first + j, ky, kx);
        if constexpr (sizeof(T) == 1) {
          const Source<T> b = source(first + j + 4, ky, kx);
          if (a.step + b.step == 2) {
            interleave(a.at, 1, b.at, 1, w.in_c, to + j);  // constant steps: the loop is unrolled
          } else {
            interleave(a.at, a.step, b.at, b.step, w.in_c, to + j);
          }
        } else {
          spread(a.at, a.step, w.in_c, to + j);
        }
      }
      to += 4u * w.in_c;
    }
  }
}

}  // namespace uhd::nn
