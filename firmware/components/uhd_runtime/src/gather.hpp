// Where the pixels under a kernel tap lie, for a block of output pixels.
#pragma once

#include "arithmetic.hpp"

namespace uhd::nn {

template <typename T>
inline constexpr T kZero = 0;

// An output pixel's window: its top left corner, and that corner's element (unsigned, so that both may wrap: a corner
// above or left of the input is a large number).
struct Corner {
  uint32_t y, x, element;
};

inline bool is_pointwise(const Window& w) {
  const bool same_size = w.out_h == w.in_h && w.out_w == w.in_w;  // else something is padded below or on the right
  return same_size && w.kernel_h * w.kernel_w == 1 && w.stride_h * w.stride_w == 1 && w.pad_top + w.pad_left == 0;
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

// Packs output pixels [first, first + 8) (int8_t) or [first, first + 4) (int16_t): word 4*k + j holds product k of
// pixel j, and of pixel j + 4 above it. Pixels after `last` repeat it.
template <typename T>
inline void gather(const Window& w, const T* in, uint32_t first, uint32_t last, uint32_t* to) {
  constexpr uint32_t kPixels = sizeof(T) == 1 ? 8 : 4;
  const uint32_t channels = w.in_c;
  Corner corners[kPixels];
  if (is_pointwise(w)) {
    for (uint32_t i = 0; i < kPixels; i++) corners[i] = {0, 0, (first + i < last ? first + i : last) * channels};
  } else {
    uint32_t oy = first / w.out_w, ox = first % w.out_w;
    for (uint32_t i = 0; i < kPixels; i++) {
      const uint32_t y = oy * w.stride_h - w.pad_top, x = ox * w.stride_w - w.pad_left;
      corners[i] = {y, x, (y * w.in_w + x) * channels};
      if (first + i < last && ++ox == w.out_w) {
        ox = 0;
        oy++;
      }
    }
  }
  for (uint32_t ky = 0; ky < w.kernel_h; ky++) {
    const uint32_t dy = ky * w.dilation_h;
    for (uint32_t kx = 0; kx < w.kernel_w; kx++, to += 4 * channels) {
      const uint32_t dx = kx * w.dilation_w, step = (dy * w.in_w + dx) * channels;
      const auto inside = [&](const Corner& c) { return c.y + dy < w.in_h && c.x + dx < w.in_w; };
      for (uint32_t j = 0; j < 4; j++) {
        const Corner& a = corners[j];
        const bool a_inside = inside(a);
        const T* from = a_inside ? in + (a.element + step) : &kZero<T>;
        if constexpr (sizeof(T) == 1) {
          const Corner& b = corners[j + 4];
          const bool b_inside = inside(b);
          const T* above = b_inside ? in + (b.element + step) : &kZero<T>;
          if (a_inside && b_inside) {
            interleave(from, 1, above, 1, channels, to + j);  // constant steps: the loop is unrolled
          } else {
            interleave(from, a_inside, above, b_inside, channels, to + j);
          }
        } else {
          spread(from, a_inside, channels, to + j);
        }
      }
    }
  }
}

}  // namespace uhd::nn
