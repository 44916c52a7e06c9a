// conv_gemm for int16_t: blocks of 4 pixels by 4 output channels; chunks summed in 32 bits, channels in 64.
#include "gather.hpp"

namespace uhd::nn {
namespace {

constexpr uint32_t kBlock = 4;
constexpr uint32_t kHeader = 20;  // bytes before a chunk's weights

struct ChunkHead {
  uint16_t length, reserved;
  uint32_t centre[4];
};
static_assert(sizeof(ChunkHead) == kHeader, "the stream's layout");

struct Sums {
  U4 channel[4];
};

UHD_INLINE Sums run_chunk(const uint32_t* x, const uint8_t* chunk) {
  const ChunkHead& head = *reinterpret_cast<const ChunkHead*>(chunk);
  const int16_t* w = reinterpret_cast<const int16_t*>(chunk + kHeader);
  const int16_t* const end = w + 4 * head.length;
  U4 a = splat(head.centre[0]), b = splat(head.centre[1]), c = splat(head.centre[2]), d = splat(head.centre[3]);
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

}  // namespace

template <typename T, typename R>
void conv_gemm(const uint8_t* data, const GemmConv& layer, const T* in, T* out, uint32_t* scratch) {
  const Window& w = layer.window;
  const uint32_t pixels = uint32_t{w.out_h} * w.out_w;
  const uint32_t* const end = scratch + 4 * gemm_products(w);
  const int64_t* const bias = reinterpret_cast<const int64_t*>(data + layer.bias);
  for (uint32_t first = 0; first < pixels; first += kBlock) {
    gather(w, in, first, pixels - 1, scratch);
    const uint32_t count = pixels - first < kBlock ? pixels - first : kBlock;
    const uint8_t* stream = data + layer.stream;
    for (uint32_t group = 0; group < w.out_c; group += 4) {
      int64_t total[4][kBlock];
      for (uint32_t c = 0; c < 4; c++)
        for (uint32_t p = 0; p < kBlock; p++) total[c][p] = bias[group + c];
      for (const uint32_t* x = scratch; x != end;) {
        const Sums s = run_chunk(x, stream);
#pragma GCC unroll 4
        for (int c = 0; c < 4; c++) each(s.channel[c], kBlock, [&](uint32_t p, uint32_t v) { total[c][p] += v; });
        const uint32_t length = reinterpret_cast<const ChunkHead*>(stream)->length;
        x += 4 * length;
        stream += kHeader + 8 * length;
      }
      for (uint32_t c = 0; c < 4 && group + c < w.out_c; c++) {
        const uint32_t shift = (data + layer.shift)[group + c];
        T* to = out + first * layer.out_pitch + group + c;
        for (uint32_t p = 0; p < count; p++, to += layer.out_pitch) {
          *to = static_cast<T>(clamp<int64_t>(shift_right<R>(total[c][p], shift), layer.lowest, layer.highest));
        }
      }
    }
  }
}

template void conv_gemm<int16_t, HalfUp>(const uint8_t*, const GemmConv&, const int16_t*, int16_t*, uint32_t*);
template void conv_gemm<int16_t, HalfEven>(const uint8_t*, const GemmConv&, const int16_t*, int16_t*, uint32_t*);

}  // namespace uhd::nn
