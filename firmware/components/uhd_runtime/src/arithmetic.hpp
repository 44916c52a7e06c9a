// Rounding, saturation, and words of four lanes.
#pragma once

#include <stdint.h>
#include <string.h>

#include "uhd/kernels.hpp"

#define UHD_INLINE inline __attribute__((always_inline))

// GCC for RISC-V schedules all loads of a multiply-accumulate step first and then runs out of registers. Making a
// pointer opaque after each use keeps the loads in written order. Other machines have no such need.
#if defined(__riscv)
#define UHD_KEEP_ORDER(pointer) asm("" : "+r"(pointer))
#else
#define UHD_KEEP_ORDER(pointer) ((void)0)
#endif

namespace uhd::nn {

template <typename T>
struct Wide;  // of a bias and of a complete sum
template <>
struct Wide<int8_t> { using type = int32_t; };
template <>
struct Wide<int16_t> { using type = int64_t; };

template <typename R>
inline constexpr bool kHalfEven = false;
template <>
inline constexpr bool kHalfEven<HalfEven> = true;

UHD_INLINE int32_t clamp(int32_t y, int32_t lowest, int32_t highest) {
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
  v = round_shift<R>(v, shift);
  return static_cast<int32_t>(v < lowest ? lowest : v > highest ? highest : v);
}

// Four lanes: plain registers where there are no vectors, the compiler's vectors elsewhere.
#if defined(__riscv) || !defined(__GNUC__)
struct U4 { uint32_t a, b, c, d; };
struct I4 { int32_t a, b, c, d; };
UHD_INLINE U4 splat(uint32_t x) { return {x, x, x, x}; }
UHD_INLINE U4 load(const uint32_t* p) { return {p[0], p[1], p[2], p[3]}; }
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
template <typename T>
UHD_INLINE void store(const I4& y, T* p, uint32_t pitch) {
  p[0] = static_cast<T>(y.a);
  p[pitch] = static_cast<T>(y.b);
  p[2 * pitch] = static_cast<T>(y.c);
  p[3 * pitch] = static_cast<T>(y.d);
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
UHD_INLINE void add_product(U4& s, const U4& x, uint32_t k) { s += x * k; }
UHD_INLINE U4 add(const U4& x, const U4& y) { return x + y; }
UHD_INLINE U4 low(const U4& x) { return x & 0xffffu; }
UHD_INLINE U4 high(const U4& x) { return x >> 16; }
template <typename R>
UHD_INLINE I4 finish(const U4& t, uint32_t s, int32_t lo, int32_t hi) {
  const I4 sum = reinterpret_cast<const I4&>(t);
  I4 y = sum >> static_cast<int32_t>(s);
  if (kHalfEven<R>) y -= ((sum & ((1 << s) - 1)) == 0) & y & (s > 0 ? 1 : 0);
  y = y < lo ? splat_signed(lo) : y;
  return y > hi ? splat_signed(hi) : y;
}
template <typename T>
UHD_INLINE void store(const I4& y, T* p, uint32_t pitch) {
  for (uint32_t i = 0; i < 4; i++) p[i * pitch] = static_cast<T>(y[i]);
}
template <typename L, typename F>
UHD_INLINE void each(const L& x, uint32_t count, F f) {
  for (uint32_t i = 0; i < count; i++) f(i, x[i]);
}
#endif

template <typename T>
UHD_INLINE void store(const I4& y, T* p, uint32_t pitch, uint32_t count) {
  if (count >= 4) {
    store(y, p, pitch);
  } else {
    each(y, count, [&](uint32_t i, int32_t v) { p[i * pitch] = static_cast<T>(v); });
  }
}

}  // namespace uhd::nn
