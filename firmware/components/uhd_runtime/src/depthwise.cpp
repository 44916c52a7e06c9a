// conv_depthwise: a channel at a time over a padded copy of its plane, four columns at once.
#include "arithmetic.hpp"

namespace uhd::nn {
namespace {

constexpr uint32_t kMaxTaps = 32;  // columns of a kernel, checked by codegen

template <typename T>
struct Layout {
  const Window& w;
  PlaneShape plane;
  uint32_t column[kMaxTaps];  // word offset of each kernel column
  uint32_t row;               // words from one kernel row to the next
};

template <typename T>
Layout<T> make_layout(const Window& w) {
  Layout<T> l{w, plane_shape(w, sizeof(T)), {}, 0};
  for (uint32_t kx = 0; kx < w.kernel_w; kx++) {
    const uint32_t q = kx * w.dilation_w;
    l.column[kx] = q % w.stride_w * l.plane.phase + q / w.stride_w;
  }
  l.row = l.plane.line * w.dilation_h;
  return l;
}

// One row of the plane from one or two rows of a channel; null for a row in the padding.
template <typename T>
UHD_INLINE void fill_row(const Layout<T>& l, const T* low, const T* high, uint32_t* line) {
  const Window& w = l.w;
  const uint32_t step = w.in_c * w.stride_w;
  for (uint32_t x0 = 0; x0 < w.stride_w && x0 < w.in_w; x0++) {
    const uint32_t q = x0 + w.pad_left;
    uint32_t* to = line + q % w.stride_w * l.plane.phase + q / w.stride_w;
    uint32_t count = (w.in_w - x0 + w.stride_w - 1) / w.stride_w;
    const uint32_t room = l.plane.phase > q / w.stride_w ? l.plane.phase - q / w.stride_w : 0;
    if (count > room) count = room;  // columns that no window reaches
    const T* a = low ? low + x0 * w.in_c : nullptr;
    const T* b = high ? high + x0 * w.in_c : nullptr;
    if (a && b) {
      for (; count; count--, a += step, b += step) *to++ = static_cast<uint32_t>(*a) + (static_cast<uint32_t>(*b) << 16);
    } else if (a) {
      for (; count; count--, a += step) *to++ = static_cast<uint32_t>(*a);
    } else if (b) {
      for (; count; count--, b += step) *to++ = static_cast<uint32_t>(*b) << 16;
    }
  }
}

template <typename T>
void fill_plane(const Layout<T>& l, const T* channel, uint32_t* plane) {
  const Window& w = l.w;
  const uint32_t line = uint32_t{w.in_w} * w.in_c;
  const uint32_t skip = l.plane.upper_row * w.stride_h;
  for (uint32_t r = 0; r < l.plane.rows; r++) {
    const uint32_t iy = r - w.pad_top, upper = iy + skip;  // wraps to a large number above the input
    const T* low = iy < w.in_h ? channel + iy * line : nullptr;
    const T* high = sizeof(T) == 1 && upper < w.in_h ? channel + upper * line : nullptr;
    fill_row(l, low, high, plane + r * l.plane.line);
  }
}

// Sums of products of four neighbouring columns, from `start`.
template <typename T, uint32_t Taps, bool Dense>
UHD_INLINE U4 sum_taps(const Layout<T>& l, const uint32_t* p, const T* weight, uint32_t start) {
  U4 acc = splat(start);
  if constexpr (Taps == 3) {
#pragma GCC unroll 3
    for (uint32_t ky = 0; ky < 3; ky++) {
#pragma GCC unroll 3
      for (uint32_t kx = 0; kx < 3; kx++)
        add_product(acc, load(p + (Dense ? kx : l.column[kx])), static_cast<uint32_t>(weight[3 * ky + kx]));
      p += l.row;
    }
  } else {
    for (uint32_t ky = 0; ky < l.w.kernel_h; ky++, p += l.row)
      for (uint32_t kx = 0; kx < l.w.kernel_w; kx++) add_product(acc, load(p + l.column[kx]), static_cast<uint32_t>(*weight++));
  }
  return acc;
}

// One product of a plane's word, lower or upper pixel.
template <typename T>
UHD_INLINE int32_t pixel(uint32_t word, bool upper) {
  if (sizeof(T) == 2) return static_cast<int32_t>(word);
  const int32_t low = static_cast<int16_t>(word & 0xffffu);
  return upper ? static_cast<int16_t>((word - static_cast<uint32_t>(low)) >> 16) : low;
}

// A channel whose sums do not fit: full-width arithmetic, one output at a time.
template <typename T, typename R>
void run_wide(const Layout<T>& l, const DepthwiseConv& layer, const uint32_t* plane, const T* weight,
              typename Wide<T>::type bias, uint32_t shift, T* out) {
  const Window& w = l.w;
  for (uint32_t oy = 0; oy < w.out_h; oy++) {
    const bool upper = sizeof(T) == 1 && oy >= l.plane.upper_row;
    const uint32_t row = upper ? oy - l.plane.upper_row : oy;
    for (uint32_t ox = 0; ox < w.out_w; ox++, out += w.out_c) {
      int64_t sum = bias;
      for (uint32_t ky = 0; ky < w.kernel_h; ky++)
        for (uint32_t kx = 0; kx < w.kernel_w; kx++)
          sum += int64_t{pixel<T>(plane[row * w.stride_h * l.plane.line + ky * l.row + l.column[kx] + ox], upper)} *
                 weight[ky * w.kernel_w + kx];
      const int64_t y = shift_right<R, int64_t>(sum, shift);
      *out = static_cast<T>(y < layer.lowest ? layer.lowest : y > layer.highest ? layer.highest : y);
    }
  }
}

template <typename R>
UHD_INLINE void put(const U4& sum, int32_t bias, uint32_t shift, const DepthwiseConv& layer, int8_t* out, uint32_t count) {
  store(finish<R>(add(sum, splat(static_cast<uint32_t>(bias))), shift, layer.lowest, layer.highest), out,
        layer.window.out_c, count);
}

template <typename R>
UHD_INLINE void put(const U4& sum, int64_t bias, uint32_t shift, const DepthwiseConv& layer, int16_t* out, uint32_t count) {
  each(sum, count, [&](uint32_t i, uint32_t v) {
    const int64_t y = shift_right<R, int64_t>(bias + v, shift);
    out[i * layer.window.out_c] =
        static_cast<int16_t>(y < layer.lowest ? layer.lowest : y > layer.highest ? layer.highest : y);
  });
}

template <typename T, typename R, uint32_t Taps, bool Dense>
void run_channel(const Layout<T>& l, const DepthwiseConv& layer, const uint32_t* plane, const T* weight, uint32_t centre,
                 typename Wide<T>::type bias, uint32_t shift, T* out) {
  const Window& w = l.w;
  const uint32_t upper = l.plane.upper_row * w.out_w * w.out_c;
  const uint32_t start = sizeof(T) == 1 ? centre * 0x10001u : centre;
  for (uint32_t oy = 0; oy < l.plane.upper_row; oy++) {
    const uint32_t* p = plane + oy * w.stride_h * l.plane.line;
    const bool both = sizeof(T) == 1 && oy + l.plane.upper_row < w.out_h;
    for (uint32_t left = w.out_w; left; p += 4) {
      const uint32_t count = left < 4 ? left : 4;
      const U4 sum = sum_taps<T, Taps, Dense>(l, p, weight, start);
      put<R>(sizeof(T) == 1 ? low(sum) : sum, bias, shift, layer, out, count);
      if (both) put<R>(high(sum), bias, shift, layer, out + upper, count);
      out += count * w.out_c;
      left -= count;
    }
  }
}

}  // namespace

template <typename T, typename R>
void conv_depthwise(const uint8_t* data, const DepthwiseConv& layer, const T* in, T* out, uint32_t* scratch) {
  using Centre = typename Wide<T>::type;
  const Window& w = layer.window;
  const Layout<T> l = make_layout<T>(w);
  const uint32_t taps = uint32_t{w.kernel_h} * w.kernel_w;
  const T* weight = reinterpret_cast<const T*>(data + layer.weights);
  const Centre* bias = reinterpret_cast<const Centre*>(data + layer.bias);
  memset(scratch, 0, l.plane.words() * sizeof(uint32_t));  // the padding stays so
  for (uint32_t c = 0; c < w.in_c; c++, weight += taps) {
    fill_plane(l, in + c, scratch);
    const uint32_t shift = (data + layer.shift)[c];
    const uint32_t centre = sizeof(T) == 1 ? reinterpret_cast<const uint16_t*>(data + layer.centre)[c]
                                           : reinterpret_cast<const uint32_t*>(data + layer.centre)[c];
    if (centre == (sizeof(T) == 1 ? kDepthwiseWide8 : kDepthwiseWide16)) {
      run_wide<T, R>(l, layer, scratch, weight, bias[c], shift, out + c);
    } else if (w.kernel_h != 3 || w.kernel_w != 3) {
      run_channel<T, R, 0, false>(l, layer, scratch, weight, centre, bias[c], shift, out + c);
    } else if (w.stride_w == 1 && w.dilation_w == 1) {
      run_channel<T, R, 3, true>(l, layer, scratch, weight, centre, bias[c], shift, out + c);
    } else {
      run_channel<T, R, 3, false>(l, layer, scratch, weight, centre, bias[c], shift, out + c);
    }
  }
}

#define UHD_INSTANCE(T, R) \
  template void conv_depthwise<T, R>(const uint8_t*, const DepthwiseConv&, const T*, T*, uint32_t*);
UHD_INSTANCE(int8_t, HalfUp)
UHD_INSTANCE(int8_t, HalfEven)
UHD_INSTANCE(int16_t, HalfUp)
UHD_INSTANCE(int16_t, HalfEven)

}  // namespace uhd::nn
