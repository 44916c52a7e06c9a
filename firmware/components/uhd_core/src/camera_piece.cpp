#include "uhd/preprocess.hpp"

// A camera picture as it comes over the link, in pieces. The link is slower than this, so it need not be fast.

namespace uhd {

void camera_piece(const CameraPicture& picture, uint16_t out_width, uint16_t out_height, const uint8_t* data,
                  uint32_t offset, uint32_t size, const NetworkSink& sink) {
  const uint32_t step = picture.width / out_width;
  const uint32_t rest = picture.width % out_width;
  for (uint32_t y = 0; y < out_height; y++) {
    const uint64_t sy = static_cast<uint64_t>(y) * picture.height / out_height;
    const uint32_t row = static_cast<uint32_t>(sy * picture.stride);
    if (static_cast<uint64_t>(row) + 2 * static_cast<uint64_t>(picture.width) <= offset) continue;
    if (row >= static_cast<uint64_t>(offset) + size) break;
    uint32_t sx = 0, carry = 0;  // sx = x * width / out_width, without a division a pixel
    for (uint32_t x = 0; x < out_width; x++) {
      const size_t element = 2 * (static_cast<size_t>(y) * out_width + x);
      const uint32_t luma = row + 2 * sx;
      const uint32_t chroma = row + 4 * (sx / 2) + (x % 2 ? 3 : 1);
      // Unsigned wrap-around makes one comparison of two.
      if (luma - offset < size) sink.put(element, data[luma - offset]);
      if (chroma - offset < size) sink.put(element + 1, data[chroma - offset]);
      sx += step;
      carry += rest;
      if (carry >= out_width) {
        carry -= out_width;
        sx++;
      }
    }
  }
}

}  // namespace uhd
