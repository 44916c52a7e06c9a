// Operators that look at one place at a time.
#include "arithmetic.hpp"

namespace uhd::nn {
namespace {

template <typename T, typename F>
UHD_INLINE void for_each(const Binary& op, const T* a, const T* b, T* out, F compute) {
  for (uint32_t y = 0; y < op.h; y++) {
    for (uint32_t x = 0; x < op.w; x++) {
      const T* p = a + y * op.a_row + x * op.a_column;
      const T* q = b + y * op.b_row + x * op.b_column;
      if (op.a_channel == 1 && op.b_channel == 1) {
#pragma GCC unroll 4
        for (uint32_t c = 0; c < op.c; c++) out[c] = static_cast<T>(compute(p[c], q[c]));
      } else {
        for (uint32_t c = 0; c < op.c; c++) {
          out[c] = static_cast<T>(compute(*p, *q));
          p += op.a_channel;
          q += op.b_channel;
        }
      }
      out += op.c;
    }
  }
}

}  // namespace

template <typename T>
void add(const Binary& op, const T* a, const T* b, T* out) {
  const int32_t lowest = op.lowest, highest = op.highest;
  for_each(op, a, b, out, [=](int32_t x, int32_t y) { return clamp(x + y, lowest, highest); });
}

template <typename T>
void subtract(const Binary& op, const T* a, const T* b, T* out) {
  const int32_t lowest = op.lowest, highest = op.highest;
  for_each(op, a, b, out, [=](int32_t x, int32_t y) { return clamp(x - y, lowest, highest); });
}

template <typename T, typename R>
void multiply(const Binary& op, const T* a, const T* b, T* out) {
  const int32_t lowest = op.lowest, highest = op.highest, shift = op.shift;
  if (shift >= 0 && shift <= 30) {  // |product| + half of 2^shift < 2^31
    const int32_t half = shift ? 1 << (shift - 1) : 0;
    for_each(op, a, b, out, [=](int32_t x, int32_t y) {
      return clamp(shift_right<R>(x * y + half, static_cast<uint32_t>(shift)), lowest, highest);
    });
  } else {
    for_each(op, a, b, out, [=](int32_t x, int32_t y) { return finish<R>(x * y, shift, lowest, highest); });
  }
}

template <typename In, typename Out, typename R>
void requantize(const Requantize& op, const In* in, Out* out) {
  if (op.shift >= 0 && op.shift <= 30) {
    const int32_t half = op.shift ? 1 << (op.shift - 1) : 0;
    const uint32_t shift = static_cast<uint32_t>(op.shift);
    for (uint32_t i = 0; i < op.count; i++)
      out[i] = static_cast<Out>(clamp(shift_right<R>(in[i] + half, shift), op.lowest, op.highest));
  } else {
    for (uint32_t i = 0; i < op.count; i++)
      out[i] = static_cast<Out>(finish<R>(in[i], op.shift, op.lowest, op.highest));
  }
}

void lookup8(const int8_t* table, uint32_t count, const int8_t* in, int8_t* out) {
  for (uint32_t i = 0; i < count; i++) out[i] = table[in[i] + 128];
}

template <typename R>
void lookup16(const int16_t* table, uint32_t step_shift, uint32_t count, const int16_t* in, int16_t* out) {
  const int32_t half = step_shift ? 1 << (step_shift - 1) : 0;
  for (uint32_t i = 0; i < count; i++) out[i] = table[shift_right<R>(in[i] + 32768 + half, step_shift)];
}

#define UHD_BINARY(T)                                                       \
  template void add<T>(const Binary&, const T*, const T*, T*);              \
  template void subtract<T>(const Binary&, const T*, const T*, T*);         \
  template void multiply<T, HalfUp>(const Binary&, const T*, const T*, T*); \
  template void multiply<T, HalfEven>(const Binary&, const T*, const T*, T*);
UHD_BINARY(int8_t)
UHD_BINARY(int16_t)

#define UHD_REQUANTIZE(In, Out)                                                  \
  template void requantize<In, Out, HalfUp>(const Requantize&, const In*, Out*); \
  template void requantize<In, Out, HalfEven>(const Requantize&, const In*, Out*);
UHD_REQUANTIZE(int8_t, int8_t)
UHD_REQUANTIZE(int8_t, int16_t)
UHD_REQUANTIZE(int16_t, int8_t)
UHD_REQUANTIZE(int16_t, int16_t)

template void lookup16<HalfUp>(const int16_t*, uint32_t, uint32_t, const int16_t*, int16_t*);
template void lookup16<HalfEven>(const int16_t*, uint32_t, uint32_t, const int16_t*, int16_t*);

}  // namespace uhd::nn
