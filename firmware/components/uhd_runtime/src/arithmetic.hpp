// Rounding, saturation, and words of four lanes.
#pragma once

#include <stdint.h>
#include <string.h>

#include "uhd/kernels.hpp"

#define UHD_INLINE inline __attribute__((always_inline))

// Machines without vectors of four 32-bit lanes.
#if !defined(UHD_SCALAR_LANES) && (defined(__riscv) || defined(__XTENSA__))
#define UHD_SCALAR_LANES 1
#endif

// GCC for RISC-V gathers the loads of several multiply-accumulate steps at their front and then runs out of registers.
// It is kept from that by scheduling after register allocation only, by not regrouping sums, and by telling it that
// what follows through `pointer` needs `sum` first. Other machines have no such need.
#if defined(__riscv) && !defined(__clang__)
#pragma GCC optimize("no-schedule-insns", "no-tree-reassoc")
#endif
#if defined(UHD_SCALAR_LANES)
#define UHD_AFTER(sum, pointer) asm("" : "+r"(pointer) : "r"((sum).a), "r"((sum).b), "r"((sum).c), "r"((sum).d))
#else
#define UHD_AFTER(sum, pointer) ((void)0)
#endif

namespace uhd::nn {

template <typename T>
struct Wide;  // `type`: of a bias and of a complete sum; `centre`: of a chunk's centre
template <>
struct Wide<int8_t> {
  using type = int32_t;
  using centre = uint16_t;
};
template <>
struct Wide<int16_t> {
  using type = int64_t;
  using centre = uint32_t;
};

template <typename R>
inline constexpr bool kHalfEven = false;
template <>
inline constexpr bool kHalfEven<HalfEven> = true;

template <typename I>
UHD_INLINE I clamp(I y, I lowest, I highest) {
  y = y < lowest ? lowest : y;
  return y > highest ? highest : y;
}

// `t` is the sum plus half of 2^shift; 0 <= shift < bits of I.
template <typename R, typename I>
UHD_INLINE I shift_right(I t, uint32_t shift) {
  I y = t >> shift;
  if (kHalfEven<R> && shift > 0 && (t & ((I{1} << shift) - 1)) == 0) y &= ~I{1};
  return y;
}

// round(v * 2^-shift) for any shift; far beyond 16 bits it saturates.
template <typename R>
inline int64_t round_shift(int64_t v, int32_t shift) {
  constexpr int64_t kLimit = int64_t{1} << 31;
  if (shift > 0) {
    if (shift > 62) return 0;  // |v| < 2^61
    return shift_right<R, int64_t>(v + (int64_t{1} << (shift - 1)), static_cast<uint32_t>(shift));
  }
  v = v > kLimit ? kLimit : v < -kLimit ? -kLimit : v;
  return v * (int64_t{1} << (shift < -31 ? 31 : -shift));
}

template <typename R>
inline int32_t finish(int64_t v, int32_t shift, int32_t lowest, int32_t highest) {
  return static_cast<int32_t>(clamp<int64_t>(round_shift<R>(v, shift), lowest, highest));
}

// Four lanes: plain registers where there are no vectors, the compiler's vectors elsewhere.
#if defined(UHD_SCALAR_LANES)
struct U4 {
  uint32_t a, b, c, d;
};
struct I4 {
  int32_t a, b, c, d;
};
UHD_INLINE U4 splat(uint32_t x) { return {x, x, x, x}; }
UHD_INLINE U4 load(const uint32_t* p) { return {p[0], p[1], p[2], p[3]}; }
UHD_INLINE void save(const U4& x, uint32_t* p) {
  p[0] = x.a;
  p[1] = x.b;
  p[2] = x.c;
  p[3] = x.d;
}
UHD_INLINE void add_product(U4& s, const U4& x, uint32_t k) {
  s.a += x.a * k;
  s.b += x.b * k;
  s.c += x.c * k;
  s.d += x.d * k;
}
UHD_INLINE U4 add(const U4& x, const U4& y) { return {x.a + y.a, x.b + y.b, x.c + y.c, x.d + y.d}; }
UHD_INLINE U4 low(const U4& x) { return {x.a & 0xffffu, x.b & 0xffffu, x.c & 0xffffu, x.d & 0xffffu}; }
UHD_INLINE U4 high(const U4& x) { return {x.a >> 16, x.b >> 16, x.c >> 16, x.d >> 16}; }
template <typename R>
UHD_INLINE I4 finish(const U4& t, uint32_t s, int32_t lo, int32_t hi) {
  return {clamp(shift_right<R>(static_cast<int32_t>(t.a), s), lo, hi),
          clamp(shift_right<R>(static_cast<int32_t>(t.b), s), lo, hi),
          clamp(shift_right<R>(static_cast<int32_t>(t.c), s), lo, hi),
          clamp(shift_right<R>(static_cast<int32_t>(t.d), s), lo, hi)};
}
// Lane i of the four vectors goes to the four places at p + i * pitch.
UHD_INLINE void store_columns(const I4& y0, const I4& y1, const I4& y2, const I4& y3, int8_t* p, uint32_t pitch) {
  const auto put = [&](int32_t v0, int32_t v1, int32_t v2, int32_t v3) {
    p[0] = static_cast<int8_t>(v0);
    p[1] = static_cast<int8_t>(v1);
    p[2] = static_cast<int8_t>(v2);
    p[3] = static_cast<int8_t>(v3);
    p += pitch;
  };
  put(y0.a, y1.a, y2.a, y3.a);
  put(y0.b, y1.b, y2.b, y3.b);
  put(y0.c, y1.c, y2.c, y3.c);
  put(y0.d, y1.d, y2.d, y3.d);
}
template <typename L, typename F>
UHD_INLINE void each(const L& x, uint32_t count, F f) {
  f(0u, x.a);
  if (count > 1) f(1u, x.b);
  if (count > 2) f(2u, x.c);
  if (count > 3) f(3u, x.d);
}
#else
typedef uint32_t U4 __attribute__((vector_size(16)));
typedef int32_t I4 __attribute__((vector_size(16)));
UHD_INLINE U4 splat(uint32_t x) { return U4{x, x, x, x}; }
UHD_INLINE I4 splat_signed(int32_t x) { return I4{x, x, x, x}; }
UHD_INLINE U4 load(const uint32_t* p) {
  U4 x;
  memcpy(&x, p, sizeof(x));
  return x;
}
UHD_INLINE void save(const U4& x, uint32_t* p) { memcpy(p, &x, sizeof(x)); }
UHD_INLINE void add_product(U4& s, const U4& x, uint32_t k) { s += x * k; }
UHD_INLINE U4 add(const U4& x, const U4& y) { return x + y; }
UHD_INLINE U4 low(const U4& x) { return x & 0xffffu; }
UHD_INLINE U4 high(const U4& x) { return x >> 16; }
template <typename R>
UHD_INLINE I4 finish(const U4& t, uint32_t s, int32_t lo, int32_t hi) {
  const I4 sum = reinterpret_cast<const I4&>(t);
  I4 y = sum >> static_cast<int32_t>(s);
  if (kHalfEven<R>) y -= ((sum & splat_signed((1 << s) - 1)) == 0) & y & splat_signed(s > 0 ? 1 : 0);
  y = y < lo ? splat_signed(lo) : y;
  return y > hi ? splat_signed(hi) : y;
}
UHD_INLINE void store_columns(const I4& y0, const I4& y1, const I4& y2, const I4& y3, int8_t* p, uint32_t pitch) {
  const I4 bytes = (y0 & 255) | (y1 & 255) << 8 | (y2 & 255) << 16 | y3 << 24;
  for (uint32_t i = 0; i < 4; i++) {
    const int32_t four = bytes[i];
    memcpy(p + i * pitch, &four, sizeof(four));
  }
}
template <typename L, typename F>
UHD_INLINE void each(const L& x, uint32_t count, F f) {
  for (uint32_t i = 0; i < 4 && i < count; i++) f(i, x[i]);
}
#endif

}  // namespace uhd::nn
