// conv_depthwise: a channel at a time over a padded copy of its plane, four columns at once.
#include "arithmetic.hpp"

namespace uhd::nn {
namespace {

// What does not change from channel to channel.
template <typename T>
struct Layout {
  Window w;
  PlaneShape plane;
  uint32_t column[kDepthwiseMaxKernel];      // word offset of each kernel column
  uint32_t row;                              // words from one kernel row to the next
  uint32_t fill_to[kDepthwiseMaxStride];     // per column phase: where its first pixel goes in a line
  uint32_t fill_count[kDepthwiseMaxStride];  // and how many there are
  int32_t lowest, highest;
};

template <typename T>
Layout<T> make_layout(const DepthwiseConv& layer) {
  const Window& w = layer.window;
  Layout<T> l = {w, plane_shape(w, sizeof(T)), {}, 0, {}, {}, layer.lowest, layer.highest};
  for (uint32_t kx = 0; kx < w.kernel_w; kx++) {
    const uint32_t q = kx * w.dilation_w;
    l.column[kx] = q % w.stride_w * l.plane.phase + q / w.stride_w;
  }
  l.row = l.plane.line * w.dilation_h;
  for (uint32_t x = 0; x < w.stride_w && x < w.in_w; x++) {
    const uint32_t q = x + w.pad_left, first = q / w.stride_w;
    const uint32_t there = (w.in_w - x + w.stride_w - 1) / w.stride_w;
    const uint32_t room = l.plane.phase > first ? l.plane.phase - first : 0;  // no window reaches beyond
    l.fill_to[x] = q % w.stride_w * l.plane.phase + first;
    l.fill_count[x] = there < room ? there : room;
  }
  return l;
}

// Copies a channel into the plane, one or two pixels a word.
template <typename T>
__attribute__((noinline)) void fill_plane(const Layout<T>& l, const T* channel, uint32_t* plane) {
  const uint32_t line = uint32_t{l.w.in_w} * l.w.in_c, step = uint32_t{l.w.in_c} * l.w.stride_w;
  const uint32_t rows = l.plane.rows, height = l.w.in_h, skip = l.plane.upper_row * l.w.stride_h;
  for (uint32_t x = 0; x < l.w.stride_w; x++, channel += l.w.in_c) {  // a phase of columns
    const uint32_t count = l.fill_count[x];
    if (count == 0) continue;
    uint32_t* first = plane + l.fill_to[x];
    uint32_t iy = 0u - l.w.pad_top;  // wraps to a large number above the input
    for (uint32_t r = 0; r < rows; r++, iy++, first += l.plane.line) {
      const uint32_t upper = iy + skip;
      const bool low = iy < height, high = sizeof(T) == 1 && upper < height;
      const T *a = channel + iy * line, *b = channel + upper * line;
      uint32_t *to = first, *const end = to + count;
      if (low && high) {
        for (; to != end; a += step, b += step) *to++ = static_cast<uint32_t>(*a) + (static_cast<uint32_t>(*b) << 16);
      } else if (low) {
        for (; to != end; a += step) *to++ = static_cast<uint32_t>(*a);
      } else if (high) {
        for (; to != end; b += step) *to++ = static_cast<uint32_t>(*b) << 16;
      }
    }
  }
}

// Which kernels: 3x3 with neighbouring taps, 3x3 with stride 2, any other.
struct Dense3 {};
struct Strided3 {};
struct AnyTaps {};
template <typename Taps>
inline constexpr bool kIsAny = false;
template <>
inline constexpr bool kIsAny<AnyTaps> = true;

// Adds the products of a kernel row to four neighbouring outputs; `q` is under the first tap of the first of them.
#if defined(UHD_SCALAR_LANES)
UHD_INLINE void add_taps(U4& sum, const uint32_t* q, uint32_t, const uint32_t* k, Dense3) {
  const uint32_t a = q[0], b = q[1], c = q[2], d = q[3], e = q[4], f = q[5];
  sum.a += a * k[0] + b * k[1] + c * k[2];
  sum.b += b * k[0] + c * k[1] + d * k[2];
  sum.c += c * k[0] + d * k[1] + e * k[2];
  sum.d += d * k[0] + e * k[1] + f * k[2];
}
UHD_INLINE void add_taps(U4& sum, const uint32_t* q, uint32_t phase, const uint32_t* k, Strided3) {
  const uint32_t a = q[0], b = q[1], c = q[2], d = q[3], e = q[4];
  q += phase;
  sum.a += a * k[0] + q[0] * k[1] + b * k[2];
  sum.b += b * k[0] + q[1] * k[1] + c * k[2];
  sum.c += c * k[0] + q[2] * k[1] + d * k[2];
  sum.d += d * k[0] + q[3] * k[1] + e * k[2];
}
#else
UHD_INLINE void add_taps(U4& sum, const uint32_t* q, uint32_t, const uint32_t* k, Dense3) {
  sum += load(q) * k[0] + load(q + 1) * k[1] + load(q + 2) * k[2];
}
UHD_INLINE void add_taps(U4& sum, const uint32_t* q, uint32_t phase, const uint32_t* k, Strided3) {
  sum += load(q) * k[0] + load(q + phase) * k[1] + load(q + 1) * k[2];
}
#endif

// Sums of the products of kernel rows [from, to) (all of them unless AnyTaps) over the plane, from `start`, four
// outputs at a time. Apart from finish_plane, because the compiler runs out of registers when the two are one.
template <typename T, typename Taps>
__attribute__((noinline)) void sum_plane(const Layout<T>& l, const T* weight, uint32_t start, const uint32_t* plane,
                                         uint32_t from, uint32_t to, uint32_t* sums) {
  const uint32_t rows = l.plane.upper_row, width = (l.w.out_w + 3u) / 4 * 4, down = l.w.stride_h * l.plane.line;
  const uint32_t kernel_row = l.row, phase = l.plane.phase;
  uint32_t k[9] = {};
  for (uint32_t i = 0; !kIsAny<Taps> && i < 9; i++) k[i] = static_cast<uint32_t>(weight[i]);
  for (uint32_t oy = 0; oy < rows; oy++, plane += down) {
    const uint32_t* p = plane;
    for (uint32_t* const end = sums + width; sums != end; sums += 4, p += 4) {
      U4 sum = splat(start);
      if constexpr (kIsAny<Taps>) {
        for (uint32_t ky = from; ky < to; ky++)
          for (uint32_t kx = 0; kx < l.w.kernel_w; kx++)
            add_product(sum, load(p + ky * kernel_row + l.column[kx]),
                        static_cast<uint32_t>(weight[ky * l.w.kernel_w + kx]));
      } else {
        add_taps(sum, p, phase, k, Taps());
        UHD_AFTER(sum, p);
        add_taps(sum, p + kernel_row, phase, k + 3, Taps());
        UHD_AFTER(sum, p);
        add_taps(sum, p + 2 * kernel_row, phase, k + 6, Taps());
      }
      save(sum, sums);
    }
  }
}

template <typename T>
struct Channel {
  const T* weight;
  const typename Wide<T>::centre* centre;  // one a kernel row
  typename Wide<T>::type bias;
  uint32_t shift;
};

// Rounds and stores one output; `total` has the bias and half of 2^shift.
template <typename R, typename T, typename I>
UHD_INLINE void put(I total, uint32_t shift, I lowest, I highest, T* out) {
  *out = static_cast<T>(clamp(shift_right<R, I>(total, shift), lowest, highest));
}

// Sums to outputs. `parts` sums, `part` words apart, make up each output.
template <typename T, typename R, bool OnePart>
__attribute__((noinline)) void finish_plane(const Layout<T>& l, const Channel<T>& channel, const uint32_t* sums,
                                            uint32_t parts, T* out) {
  using Sum = typename Wide<T>::type;
  const uint32_t pitch = l.w.out_c, width = l.w.out_w, padding = (4 - width % 4) % 4, shift = channel.shift;
  const uint32_t rows = l.plane.upper_row, part = rows * (width + padding);
  const uint32_t both = sizeof(T) == 1 ? l.w.out_h - rows : 0;
  const Sum bias = channel.bias, lowest = l.lowest, highest = l.highest;
  T* upper = out + rows * width * pitch;
  for (uint32_t oy = 0; oy < rows; oy++, sums += padding) {
    const bool with_upper = oy < both;
    for (uint32_t left = width; left; left--, sums++, out += pitch, upper += pitch) {
      Sum low = bias, high = bias;
      for (uint32_t i = 0; i < (OnePart ? 1 : parts); i++) {
        const uint32_t sum = sums[i * part];
        low += static_cast<Sum>(sizeof(T) == 1 ? sum & 0xffffu : sum);
        high += static_cast<Sum>(sum >> 16);
      }
      put<R>(low, shift, lowest, highest, out);
      if (with_upper) put<R>(high, shift, lowest, highest, upper);
    }
  }
}

template <typename T, typename R, typename Taps>
void run_channel(const Layout<T>& l, const Channel<T>& channel, bool by_row, const uint32_t* plane, uint32_t* sums,
                 T* out) {
  constexpr uint32_t kBoth = sizeof(T) == 1 ? 0x10001u : 1u;
  const uint32_t rows = l.w.kernel_h;
  if (!by_row) {
    sum_plane<T, Taps>(l, channel.weight, channel.centre[0] * kBoth, plane, 0, rows, sums);
    finish_plane<T, R, true>(l, channel, sums, 1, out);
    return;
  }
  const uint32_t part = l.plane.sums;
  for (uint32_t ky = 0; ky < rows; ky++)
    sum_plane<T, AnyTaps>(l, channel.weight, channel.centre[ky] * kBoth, plane, ky, ky + 1, sums + ky * part);
  finish_plane<T, R, false>(l, channel, sums, rows, out);
}

// A pixel of the plane, in the lower or the upper half of its word.
template <typename T>
UHD_INLINE int32_t pixel(uint32_t word, bool upper) {
  if (sizeof(T) == 2) return static_cast<int32_t>(word);
  const int32_t low = static_cast<int16_t>(word & 0xffffu);
  return upper ? static_cast<int16_t>((word - static_cast<uint32_t>(low)) >> 16) : low;
}

// A channel whose sums do not fit: full-width arithmetic, one output at a time.
template <typename T, typename R>
void run_wide(const Layout<T>& l, const Channel<T>& channel, const uint32_t* plane, T* out) {
  const Window& w = l.w;
  for (uint32_t oy = 0; oy < w.out_h; oy++) {
    const bool upper = sizeof(T) == 1 && oy >= l.plane.upper_row;
    const uint32_t* line = plane + (upper ? oy - l.plane.upper_row : oy) * w.stride_h * l.plane.line;
    for (uint32_t ox = 0; ox < w.out_w; ox++, out += w.out_c) {
      int64_t sum = channel.bias;
      for (uint32_t ky = 0; ky < w.kernel_h; ky++)
        for (uint32_t kx = 0; kx < w.kernel_w; kx++)
          sum += int64_t{pixel<T>(line[ky * l.row + l.column[kx] + ox], upper)} * channel.weight[ky * w.kernel_w + kx];
      put<R, T, int64_t>(sum, channel.shift, l.lowest, l.highest, out);
    }
  }
}

}  // namespace

template <typename T, typename R>
void conv_depthwise(const uint8_t* data, const DepthwiseConv& layer, const T* in, T* out, uint32_t* scratch) {
  const Layout<T> l = make_layout<T>(layer);
  const Window& w = l.w;
  const bool three = w.kernel_h == 3 && w.kernel_w == 3 && w.dilation_w == 1;
  const uint8_t* mode = data + layer.mode;
  const uint8_t* shift = data + layer.shift;
  const auto* bias = reinterpret_cast<const typename Wide<T>::type*>(data + layer.bias);
  Channel<T> channel = {reinterpret_cast<const T*>(data + layer.weights),
                        reinterpret_cast<const typename Wide<T>::centre*>(data + layer.centre), 0, 0};
  uint32_t* const sums = scratch + l.plane.words();
  memset(scratch, 0, l.plane.words() * sizeof(uint32_t));  // the padding stays so
  for (uint32_t c = 0; c < w.in_c; c++) {
    fill_plane(l, in + c, scratch);
    channel.bias = bias[c];
    channel.shift = shift[c];
    const bool by_row = mode[c] == kSumsByRow;
    if (mode[c] == kSumsWide) {
      run_wide<T, R>(l, channel, scratch, out + c);
    } else if (three && w.stride_w == 1) {
      run_channel<T, R, Dense3>(l, channel, by_row, scratch, sums, out + c);
    } else if (three && w.stride_w == 2) {
      run_channel<T, R, Strided3>(l, channel, by_row, scratch, sums, out + c);
    } else {
      run_channel<T, R, AnyTaps>(l, channel, by_row, scratch, sums, out + c);
    }
    channel.weight += w.kernel_h * w.kernel_w;
    channel.centre += w.kernel_h;
  }
}

#define UHD_INSTANCE(T, R) \
  template void conv_depthwise<T, R>(const uint8_t*, const DepthwiseConv&, const T*, T*, uint32_t*);
UHD_INSTANCE(int8_t, HalfUp)
UHD_INSTANCE(int8_t, HalfEven)
UHD_INSTANCE(int16_t, HalfUp)
UHD_INSTANCE(int16_t, HalfEven)

}  // namespace uhd::nn
