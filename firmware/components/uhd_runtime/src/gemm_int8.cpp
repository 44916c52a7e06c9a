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
  do {  // two products of each channel
#pragma GCC unroll 2
    for (uint32_t i = 0; i < 8; i += 4) {
      const U4 v = load(x + i);
      add_product(a, v, static_cast<uint32_t>(w[i]));
      UHD_AFTER(a, w);
      add_product(b, v, static_cast<uint32_t>(w[i + 1]));
      UHD_AFTER(b, w);
      add_product(c, v, static_cast<uint32_t>(w[i + 2]));
      UHD_AFTER(c, w);
      add_product(d, v, static_cast<uint32_t>(w[i + 3]));
      UHD_AFTER(d, w);
      UHD_AFTER(d, x);
    }
    x += 8;
    w += 8;
  } while (w != end);
  return {{a, b, c, d}};
}

struct Target {
  uint32_t pitch;
  int32_t lowest, highest;
};

// One group of 4 channels for one block. Returns the end of the group's stream.
template <typename R>
UHD_INLINE const uint8_t* run_group(const uint32_t* x, const uint32_t* x_end, const uint8_t* stream,
                                    const int32_t* bias, const uint8_t* shift, const Target target, int8_t* out,
                                    uint32_t pixels, uint32_t channels) {
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
  const auto done = [&](const U4& sum, int c) { return finish<R>(sum, shift[c], target.lowest, target.highest); };
  if (pixels == kBlock && channels >= 4) {
    store_columns(done(lower[0], 0), done(lower[1], 1), done(lower[2], 2), done(lower[3], 3), out, target.pitch);
    store_columns(done(upper[0], 0), done(upper[1], 1), done(upper[2], 2), done(upper[3], 3), out + 4 * target.pitch,
                  target.pitch);
    return stream;
  }
  for (uint32_t c = 0; c < channels && c < 4; c++) {
    const auto put = [&](uint32_t i, int32_t y) { out[i * target.pitch + c] = static_cast<int8_t>(y); };
    each(done(lower[c], static_cast<int>(c)), pixels, put);
    if (pixels > 4)
      each(done(upper[c], static_cast<int>(c)), pixels - 4, [&](uint32_t i, int32_t y) { put(i + 4, y); });
  }
  return stream;
}

}  // namespace

template <typename T, typename R>
void conv_gemm(const uint8_t* data, const GemmConv& layer, const T* in, T* out, uint32_t* scratch) {
  const Window& w = layer.window;
  const uint32_t pixels = uint32_t{w.out_h} * w.out_w, channels = w.out_c;
  const Target target = {layer.out_pitch, layer.lowest, layer.highest};
  const uint32_t* const end = scratch + 4 * gemm_products(w);
  const int32_t* const bias = reinterpret_cast<const int32_t*>(data + layer.bias);
  const uint8_t* const shift = data + layer.shift;
  for (uint32_t first = 0; first < pixels; first += kBlock, out += kBlock * target.pitch) {
    gather(w, in, first, pixels - 1, scratch);
    const uint32_t count = pixels - first < kBlock ? pixels - first : kBlock;
    const uint8_t* stream = data + layer.stream;
    for (uint32_t c = 0; c < channels; c += 4)
      stream = run_group<R>(scratch, end, stream, bias + c, shift + c, target, out + c, count, channels - c);
  }
}

template void conv_gemm<int8_t, HalfUp>(const uint8_t*, const GemmConv&, const int8_t*, int8_t*, uint32_t*);
template void conv_gemm<int8_t, HalfEven>(const uint8_t*, const GemmConv&, const int8_t*, int8_t*, uint32_t*);

}  // namespace uhd::nn
