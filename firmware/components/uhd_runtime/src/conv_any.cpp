// conv_any: what the fast kernels do not do. Written to be read.
#include "arithmetic.hpp"

namespace uhd::nn {

template <typename T, typename R>
void conv_any(const uint8_t* data, const AnyConv& layer, const T* in, T* out) {
  const Window& w = layer.window;
  const uint32_t inputs = w.in_c / layer.groups;    // channels that one output reads
  const uint32_t outputs = w.out_c / layer.groups;  // outputs of one group
  const T* const weights = reinterpret_cast<const T*>(data + layer.weights);
  const int64_t* const bias = reinterpret_cast<const int64_t*>(data + layer.bias);
  const int8_t* const shift = reinterpret_cast<const int8_t*>(data + layer.shift);
  for (uint32_t oy = 0; oy < w.out_h; oy++) {
    for (uint32_t ox = 0; ox < w.out_w; ox++) {
      for (uint32_t n = 0; n < w.out_c; n++) {
        const T* weight = weights + n * w.kernel_h * w.kernel_w * inputs;
        int64_t sum = bias[n];
        for (uint32_t ky = 0; ky < w.kernel_h; ky++) {
          for (uint32_t kx = 0; kx < w.kernel_w; kx++, weight += inputs) {
            const uint32_t iy = oy * w.stride_h + ky * w.dilation_h - w.pad_top;
            const uint32_t ix = ox * w.stride_w + kx * w.dilation_w - w.pad_left;
            if (iy >= w.in_h || ix >= w.in_w) continue;
            const T* from = in + (iy * w.in_w + ix) * w.in_c + n / outputs * inputs;
            for (uint32_t c = 0; c < inputs; c++) sum += int32_t{from[c]} * weight[c];
          }
        }
        *out++ = static_cast<T>(finish<R>(sum, shift[n], layer.lowest, layer.highest));
      }
    }
  }
}

#define UHD_INSTANCE(T, R) template void conv_any<T, R>(const uint8_t*, const AnyConv&, const T*, T*);
UHD_INSTANCE(int8_t, HalfUp)
UHD_INSTANCE(int8_t, HalfEven)
UHD_INSTANCE(int16_t, HalfUp)
UHD_INSTANCE(int16_t, HalfEven)

}  // namespace uhd::nn
