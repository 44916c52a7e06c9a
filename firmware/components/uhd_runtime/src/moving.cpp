// Operators that move integers and compute nothing.
#include "arithmetic.hpp"

namespace uhd::nn {

void resize_nearest(const Resize& op, const void* in, void* out) {
  const uint8_t* from = static_cast<const uint8_t*>(in);
  uint8_t* to = static_cast<uint8_t*>(out);
  for (uint32_t y = 0; y < op.out_h; y++) {
    const uint8_t* line = from + y * op.in_h / op.out_h * op.in_w * op.pixel_bytes;
    for (uint32_t x = 0; x < op.out_w; x++, to += op.pixel_bytes)
      memcpy(to, line + x * op.in_w / op.out_w * op.pixel_bytes, op.pixel_bytes);
  }
}

template <typename T>
void move(const Move& op, const T* in, T* out) {
  constexpr int kInner = kMoveRank - 1;
  const uint32_t count = op.extent[kInner];
  uint32_t index[kMoveRank] = {}, from = 0, to = 0;
  for (;;) {
    if (op.from[kInner] == 1 && op.to[kInner] == 1) {
      memcpy(out + to, in + from, count * sizeof(T));
    } else {
      for (uint32_t i = 0; i < count; i++) out[to + i * op.to[kInner]] = in[from + i * op.from[kInner]];
    }
    int axis = kInner - 1;
    for (; axis >= 0; axis--) {  // the next line, odometer fashion
      from += op.from[axis];
      to += op.to[axis];
      if (++index[axis] < op.extent[axis]) break;
      from -= op.from[axis] * op.extent[axis];
      to -= op.to[axis] * op.extent[axis];
      index[axis] = 0;
    }
    if (axis < 0) return;
  }
}

template void move<int8_t>(const Move&, const int8_t*, int8_t*);
template void move<int16_t>(const Move&, const int16_t*, int16_t*);

}  // namespace uhd::nn
