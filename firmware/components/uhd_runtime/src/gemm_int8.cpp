// conv_gemm for int8_t: blocks of 8 pixels by 4 output channels, two pixels a word.
#include "gather.hpp"

namespace uhd::nn {
namespace {

constexpr uint32_t kBlock = 8;
constexpr uint32_t kHeader = 10;  // bytes before a chunk's weights

UHD_INLINE uint32_t half_word(const uint8_t* p, uint32_t i) {
  uint16_t value;
  memcpy(&value, __builtin_assume_aligned(p + 2 * i, 2), sizeof(value));
  return value;
}

// Sums of one chunk: channel by lane, lower halves pixels 0..3, upper halves pixels 4..7.
struct Sums {
  U4 channel[4];
};

UHD_INLINE Sums run_chunk(const uint32_t* x, const uint8_t* chunk) {
  const int8_t* w = reinterpret_cast<const int8_t*>(chunk + kHeader);
  const int8_t* const end = w + 4 * half_word(chunk, 0);
  U4 a = splat(half_word(chunk, 1) * 0x10001u), b = splat(half_word(chunk, 2) * 0x10001u);
  U4 c = splat(half_word(chunk, 3) * 0x10001u), d = splat(half_word(chunk, 4) * 0x10001u);
  do {
    const U4 v = load(x);
    add_product(a, v, static_cast<uint32_t>(w[0]));
    UHD_KEEP_ORDER(w);
    add_product(b, v, static_cast<uint32_t>(w[1]));
    UHD_KEEP_ORDER(w);
    add_product(c, v, static_cast<uint32_t>(w[2]));
    UHD_KEEP_ORDER(w);
    add_product(d, v, static_cast<uint32_t>(w[3]));
    UHD_KEEP_ORDER(w);
    x += 4;
    w += 4;
  } while (w != end);
  return {{a, b, c, d}};
}

// One group of 4 channels for one block. Returns the end of the group's stream.
template <typename R>
UHD_INLINE const uint8_t* run_group(const uint32_t* x, const uint32_t* x_end, const uint8_t* stream, const int32_t* bias,
                                    const uint8_t* shift, const GemmConv& layer, int8_t* out, uint32_t pixels,
                                    uint32_t channels) {
  U4 lower[4], upper[4];
  {
    const Sums s = run_chunk(x, stream);
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) {
      const U4 start = splat(static_cast<uint32_t>(bias[c]));
      lower[c] = add(low(s.channel[c]), start);
      upper[c] = add(high(s.channel[c]), start);
    }
  }
  for (;;) {
    const uint32_t length = half_word(stream, 0);
    x += 4 * length;
    stream += kHeader + 4 * length;
    if (x == x_end) break;
    const Sums s = run_chunk(x, stream);
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) {
      lower[c] = add(low(s.channel[c]), lower[c]);
      upper[c] = add(high(s.channel[c]), upper[c]);
    }
  }
  const uint32_t pitch = layer.out_pitch;
  if (pixels == kBlock && channels >= 4) {
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) {
      store(finish<R>(lower[c], shift[c], layer.lowest, layer.highest), out + c, pitch);
      store(finish<R>(upper[c], shift[c], layer.lowest, layer.highest), out + c + 4 * pitch, pitch);
    }
  } else {
    for (uint32_t c = 0; c < channels && c < 4; c++) {
      store(finish<R>(lower[c], shift[c], layer.lowest, layer.highest), out + c, pitch, pixels);
      if (pixels > 4)
        store(finish<R>(upper[c], shift[c], layer.lowest, layer.highest), out + c + 4 * pitch, pitch, pixels - 4);
    }
  }
  return stream;
}

}  // namespace

template <typename T, typename R>
void conv_gemm(const uint8_t* data, const GemmConv& layer, const T* in, T* out, uint32_t* scratch) {
  const Window& w = layer.window;
  const uint32_t pixels = uint32_t{w.out_h} * w.out_w;
  const uint32_t* const end = scratch + 4u * w.kernel_h * w.kernel_w * w.in_c;
  for (uint32_t first = 0; first < pixels; first += kBlock) {
    gather(w, in, first, pixels - 1, scratch);
    const uint32_t left = pixels - first;
    const uint8_t* stream = data + layer.stream;
    const int32_t* bias = reinterpret_cast<const int32_t*>(data + layer.bias);
    const uint8_t* shift = data + layer.shift;
    for (uint32_t c = 0; c < w.out_c; c += 4) {
      stream = run_group<R>(scratch, end, stream, bias + c, shift + c, layer, out + first * layer.out_pitch + c,
                            left < kBlock ? left : kBlock, w.out_c - c);
    }
  }
}

template void conv_gemm<int8_t, HalfUp>(const uint8_t*, const GemmConv&, const int8_t*, int8_t*, uint32_t*);
template void conv_gemm<int8_t, HalfEven>(const uint8_t*, const GemmConv&, const int8_t*, int8_t*, uint32_t*);

}  // namespace uhd::nn
