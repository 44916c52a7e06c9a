// The kernels of uhd_runtime behind C names, for ctypes. Suffixes: 8 or 16 bits, u (half up) or e (half to even).
#include "uhd/kernels.hpp"

using namespace uhd::nn;

extern "C" {

#define UHD_CONV(T, R, S)                                                                                       \
  void gemm_##S(const uint8_t* data, const GemmConv* layer, const T* in, T* out, uint32_t* scratch) {           \
    conv_gemm<T, R>(data, *layer, in, out, scratch);                                                            \
  }                                                                                                             \
  void depthwise_##S(const uint8_t* data, const DepthwiseConv* layer, const T* in, T* out, uint32_t* scratch) { \
    conv_depthwise<T, R>(data, *layer, in, out, scratch);                                                       \
  }                                                                                                             \
  void any_##S(const uint8_t* data, const AnyConv* layer, const T* in, T* out) {                                \
    conv_any<T, R>(data, *layer, in, out);                                                                      \
  }                                                                                                             \
  void multiply_##S(const Binary* op, const T* a, const T* b, T* out) { multiply<T, R>(*op, a, b, out); }       \
  void requantize_##S(const Requantize* op, const T* in, T* out) { requantize<T, T, R>(*op, in, out); }         \
  void mean_##S(const Mean* op, const T* in, T* out) { spatial_mean<T, R>(*op, in, out); }
UHD_CONV(int8_t, HalfUp, 8u)
UHD_CONV(int8_t, HalfEven, 8e)
UHD_CONV(int16_t, HalfUp, 16u)
UHD_CONV(int16_t, HalfEven, 16e)

#define UHD_PLAIN(T, B)                                                                                      \
  void add_##B(const Binary* op, const T* a, const T* b, T* out) { add<T>(*op, a, b, out); }                 \
  void subtract_##B(const Binary* op, const T* a, const T* b, T* out) { subtract<T>(*op, a, b, out); }       \
  void max_pool_##B(const Window* w, const T* in, T* out, T* scratch) { max_pool<T>(*w, in, out, scratch); } \
  void move_##B(const Move* op, const T* in, T* out) { move<T>(*op, in, out); }
UHD_PLAIN(int8_t, 8)
UHD_PLAIN(int16_t, 16)

void requantize_8to16u(const Requantize* op, const int8_t* in, int16_t* out) {
  requantize<int8_t, int16_t, HalfUp>(*op, in, out);
}
void requantize_8to16e(const Requantize* op, const int8_t* in, int16_t* out) {
  requantize<int8_t, int16_t, HalfEven>(*op, in, out);
}
void requantize_16to8u(const Requantize* op, const int16_t* in, int8_t* out) {
  requantize<int16_t, int8_t, HalfUp>(*op, in, out);
}
void requantize_16to8e(const Requantize* op, const int16_t* in, int8_t* out) {
  requantize<int16_t, int8_t, HalfEven>(*op, in, out);
}
void lookup_8(const int8_t* table, uint32_t count, const int8_t* in, int8_t* out) { lookup8(table, count, in, out); }
void lookup_16u(const int16_t* table, uint32_t shift, uint32_t count, const int16_t* in, int16_t* out) {
  lookup16<HalfUp>(table, shift, count, in, out);
}
void lookup_16e(const int16_t* table, uint32_t shift, uint32_t count, const int16_t* in, int16_t* out) {
  lookup16<HalfEven>(table, shift, count, in, out);
}
void resize(const Resize* op, const void* in, void* out) { resize_nearest(*op, in, out); }
uint32_t plane_words(const Window* w, uint32_t bytes) { return plane_shape(*w, bytes).words(); }
uint32_t plane_sums(const Window* w, uint32_t bytes) { return plane_shape(*w, bytes).sums; }

}  // extern "C"
