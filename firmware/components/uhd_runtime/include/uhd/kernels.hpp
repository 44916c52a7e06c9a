// Integer kernels with ESP-DL's arithmetic: what generated model code calls.
//
// Activations are NHWC, batch 1, int8_t or int16_t; real value = q * 2^exponent. Every result is
//   y = clamp(round(x * 2^-shift), lowest, highest)
// with R = HalfUp (floor(x + 1/2): ESP32, ESP32-S3) or HalfEven (ESP32-P4) as the rounding of right shifts.
// Descriptors are constants made by codegen. Their `data` members are byte offsets into the model's constant data,
// which is aligned to 16 bytes; codegen has checked every range that a comment here takes for granted.
#pragma once

#include <stdint.h>

namespace uhd::nn {

struct HalfUp {};
struct HalfEven {};

// Geometry of a sliding window. What lies outside the input counts as 0 (convolutions) or not at all (pooling).
struct Window {
  uint16_t in_h, in_w, in_c;
  uint16_t out_h, out_w, out_c;
  uint16_t kernel_h, kernel_w;
  uint16_t stride_h, stride_w;
  uint16_t dilation_h, dilation_w;
  uint16_t pad_top, pad_left;
};

// Dense convolution as a matrix product over blocks of 8 (int8_t) or 4 (int16_t) output pixels and 4 output channels.
//
// Sums of products run in 32-bit words: int8_t pixels two a word, in the lower and upper 16 bits, so that one
// multiplication serves two pixels. That is exact because codegen cuts the products of a channel into chunks whose
// sums, for any input that can occur, plus a centre, stay within 0..65535 (int16_t: one pixel a word, 0..2^32-1).
//
//   stream  for each group of 4 output channels its chunks, until all kernel_h * kernel_w * in_c products are there:
//             int8_t   uint16_t length; uint16_t centre[4]; int8_t weight[length][4];
//             int16_t  uint16_t length, 0; uint32_t centre[4]; int16_t weight[length][4];
//           products run over kernel row, kernel column, input channel; lengths are even: after an odd number of
//           products comes one of weight 0, and missing output channels have weight 0
//   bias    int32_t (int16_t: int64_t) a channel, in whole groups: bias - sum of the centres + half of 2^shift
//   shift   uint8_t a channel, in whole groups: 0..30 (int16_t: 0..62)
//   scratch 16 bytes a product, of gemm_products() products, aligned to 16
// `in` and `out` may be the same place if the window is pointwise and out_pitch <= in_c.
struct GemmConv {
  Window window;
  uint32_t stream, bias, shift;
  int32_t lowest, highest;
  uint16_t out_pitch;  // elements from one output pixel to the next, >= out_c
};
constexpr uint32_t gemm_products(const Window& w) { return (uint32_t{w.kernel_h} * w.kernel_w * w.in_c + 1) & ~1u; }
template <typename T, typename R>
void conv_gemm(const uint8_t* data, const GemmConv& layer, const T* in, T* out, uint32_t* scratch);

// Depthwise convolution (out_c == in_c, one filter a channel), a channel at a time over a padded copy of its plane:
// int8_t with the lower half of the rows packed above the upper half, two pixels a word as in GemmConv.
//
//   weights  T weight[in_c][kernel_h * kernel_w]
//   mode     uint8_t a channel: how far its sums fit
//   centre   uint16_t (int16_t: uint32_t) centre[in_c][kernel_h], of the whole sum (first one) or of each kernel row
//   bias     int32_t (int16_t: int64_t) a channel: bias - the centres used + half of 2^shift
//   shift    uint8_t a channel, as in GemmConv
//   scratch  plane_shape(): words() and then `sums` words once, or kernel_h times if any channel sums by row
// `in` and `out` may be the same place.
constexpr uint8_t kSumsWhole = 0;             // all products in one chunk
constexpr uint8_t kSumsByRow = 1;             // a chunk a kernel row
constexpr uint8_t kSumsWide = 2;              // no chunk fits: full-width arithmetic
constexpr uint32_t kDepthwiseMaxKernel = 32;  // columns
constexpr uint32_t kDepthwiseMaxStride = 4;
struct DepthwiseConv {
  Window window;
  uint32_t weights, mode, centre, bias, shift;
  int32_t lowest, highest;
};
template <typename T, typename R>
void conv_depthwise(const uint8_t* data, const DepthwiseConv& layer, const T* in, T* out, uint32_t* scratch);

// Words of the depthwise kernel's plane: rows of one phase-ordered line each.
struct PlaneShape {
  uint32_t rows;       // of the plane
  uint32_t phase;      // words per column phase: input column q lies at (q % stride_w) * phase + q / stride_w
  uint32_t line;       // words per row
  uint32_t upper_row;  // output row that the upper halves start at (int8_t), and rows of sums
  uint32_t sums;       // words of the sums of a channel
  constexpr uint32_t words() const { return rows * line; }
};
constexpr PlaneShape plane_shape(const Window& w, uint32_t element_bytes) {
  const uint32_t out_rows = element_bytes == 1 ? (w.out_h + 1u) / 2 : w.out_h;
  const uint32_t columns = ((w.out_w + 3u) / 4 * 4 - 1) * w.stride_w + (w.kernel_w - 1u) * w.dilation_w + 1;
  const uint32_t phase = (columns + w.stride_w - 1) / w.stride_w;
  return {(out_rows - 1) * w.stride_h + (w.kernel_h - 1u) * w.dilation_h + 1, phase, phase * w.stride_w, out_rows,
          out_rows * ((w.out_w + 3u) / 4 * 4)};
}

// Any convolution, slowly: groups, left shifts, sums of any size. Sums are 64 bits wide.
//   weights  T weight[out_c][kernel_h][kernel_w][in_c / groups]
//   bias     int64_t a channel, as quantized
//   shift    int8_t a channel; negative shifts to the left
struct AnyConv {
  Window window;
  uint16_t groups;
  uint32_t weights, bias, shift;
  int32_t lowest, highest;
};
template <typename T, typename R>
void conv_any(const uint8_t* data, const AnyConv& layer, const T* in, T* out);

// Elementwise operators on [h, w, c] with broadcasting: strides of 0 repeat an operand. `out` is dense and may be the
// place of an operand that is not repeated. Add and Sub do not shift.
struct Binary {
  uint32_t h, w, c;
  uint32_t a_row, a_column, a_channel;
  uint32_t b_row, b_column, b_channel;
  int8_t shift;
  int32_t lowest, highest;
};
template <typename T>
void add(const Binary& op, const T* a, const T* b, T* out);
template <typename T>
void subtract(const Binary& op, const T* a, const T* b, T* out);
template <typename T, typename R>
void multiply(const Binary& op, const T* a, const T* b, T* out);

// RequantizeLinear, Relu, Clip. `in` and `out` may be the same place if In and Out are.
struct Requantize {
  uint32_t count;
  int8_t shift;
  int32_t lowest, highest;
};
template <typename In, typename Out, typename R>
void requantize(const Requantize& op, const In* in, Out* out);

// out = table[in + 128]; in place allowed.
void lookup8(const int8_t* table, uint32_t count, const int8_t* in, int8_t* out);
// Nearest of 65536 / 2^step_shift + 1 knots; in place allowed.
template <typename R>
void lookup16(const int16_t* table, uint32_t step_shift, uint32_t count, const int16_t* in, int16_t* out);

// Largest value under each window, a channel at a time. scratch: in_h * out_w elements. In place allowed.
template <typename T>
void max_pool(const Window& window, const T* in, T* out, T* scratch);

// Mean over height and width of [h, w, c], times `numerator` / `denominator` (without the count), rounded.
struct Mean {
  uint32_t pixels, channels;
  int64_t numerator, denominator;
};
template <typename T, typename R>
void spatial_mean(const Mean& op, const T* in, T* out);

// Nearest neighbour, source index floor(i * in / out).
struct Resize {
  uint16_t in_h, in_w, out_h, out_w;
  uint32_t pixel_bytes;
};
void resize_nearest(const Resize& op, const void* in, void* out);

// Moves a box of elements between two places: Concat, Slice, Split, Transpose. Extents and strides, outermost first,
// in elements; offsets are in the pointers.
constexpr int kMoveRank = 6;
struct Move {
  uint32_t extent[kMoveRank];
  uint32_t from[kMoveRank];
  uint32_t to[kMoveRank];
};
template <typename T>
void move(const Move& op, const T* in, T* out);

}  // namespace uhd::nn
