// Other views of the same camera bytes, without copying: a part of the picture, another order of its bytes.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "uhd/camera.hpp"

namespace uhd {

// Makes `frame` its largest square in the middle, from an even pixel on, with an even side. A picture that is square
// already, or less than two pixels high, stays as it is.
inline void crop_square(CameraFrame* frame) {
  CameraPicture& picture = frame->picture;
  const uint32_t side = (picture.width < picture.height ? picture.width : picture.height) & ~1u;
  if (side == 0 || (picture.width == side && picture.height == side)) return;
  const uint32_t column = ((picture.width - side) / 2) & ~1u;
  const uint32_t row = (picture.height - side) / 2;
  const uint32_t start = row * picture.stride + 2 * column;
  frame->data += start;
  frame->size -= start;
  picture.width = picture.height = side;
}

// Reads a picture of bytes U Y0 V Y1 as YUYV: from the Y of its second pixel on, the order is Y U Y V. Every pixel keeps
// its own Y and gets the U and V of itself or of its right neighbour. Costs two pixels of width (the first and the last
// one). False, and nothing is changed, if the picture is not wider than that.
inline bool uyvy_to_yuyv(CameraFrame* frame) {
  if (frame->picture.width < 4 || frame->size < 3) return false;
  frame->format = PixelFormat::kYuyv;
  frame->picture.width -= 2;
  frame->data += 3;
  frame->size -= 3;
  return true;
}

}  // namespace uhd
