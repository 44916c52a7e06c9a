// From camera bytes to the integers the model takes: piece by piece as they come over a link, or a whole picture that
// the device's own camera has left in memory.
//
// The contract with the host (docs/image-contract.md): network pixel (x, y) of an out_width x out_height input takes
// source pixel sx = x * width / out_width, sy = y * height / out_height (integer division).
//   YUYV    channel 0 is that pixel's own Y; channel 1 is U for even x and V for odd x, of the macropixel sx / 2 that it
//           lies in (uhd.image.yuyv.camera_to_network)
//   RGB565  the bits of each colour are repeated to fill a byte, then the pixels x and x + 1 are packed as a photo's
//           are: a Y each, U and V of both together (uhd.image.rgb565.rgb565_to_network)
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "uhd/status.hpp"

namespace uhd {

enum class PixelFormat : uint8_t {
  kYuyv = 0,      // bytes Y0 U Y1 V
  kRgb565Le = 1,  // rrrrrggg gggbbbbb, low byte first
  kRgb565Be = 2,  // the same, high byte first
};

// A camera picture of two bytes a pixel, rows `stride` bytes apart.
struct CameraPicture {
  uint32_t width;
  uint32_t height;
  uint32_t stride;
};

// InvalidArgument unless the width is even and positive, the height positive, the stride at least 2 * width, and
// `total` bytes hold all rows (the last one may lack its padding).
Status check_camera(const CameraPicture& picture, uint32_t total);

// Where network input goes: value v of element i (row-major height, width, channels) becomes table[v] in `integers`
// (int8_t or int16_t by `bytes`) and v in `copy`. Either may be null.
struct NetworkSink {
  const int16_t* table;
  uint8_t bytes;
  void* integers;
  uint8_t* copy;

  void put(size_t i, uint8_t v) const {
    if (copy) copy[i] = v;
    if (!integers) return;
    if (bytes == 1) {
      static_cast<int8_t*>(integers)[i] = static_cast<int8_t>(table[v]);
    } else {
      static_cast<int16_t*>(integers)[i] = table[v];
    }
  }
};

// Takes from `data`, which is bytes [offset, offset + size) of the picture, whatever the network input needs of it.
// The picture must have passed check_camera with some total >= offset + size.
void camera_piece(const CameraPicture& picture, uint16_t out_width, uint16_t out_height, const uint8_t* data,
                  uint32_t offset, uint32_t size, const NetworkSink& sink);

// The whole picture at once, which is much faster: `data` is all of it, the sink takes every element. The picture must
// have passed check_camera with the bytes at `data`. RGB565 needs an even out_width. YUYV gives what camera_piece gives.
void camera_picture(const CameraPicture& picture, PixelFormat format, uint16_t out_width, uint16_t out_height,
                    const uint8_t* data, const NetworkSink& sink);

}  // namespace uhd
