// What a display shows: the camera's picture with boxes, their scores, pictures a second and the score threshold.
// Rendered in strips of rows, so that a display of any size needs only two small buffers.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "uhd/camera.hpp"
#include "uhd/decode.hpp"

namespace uhd {

// Renders rows [first_row, first_row + rows) of an out_w x out_h display to `rgb565_be`: out_w pixels a row, high byte
// first in memory. Rows below out_h are left alone. The pixels do not depend on how the display is cut into strips.
//
// The picture fills the display; pixel (x, y) is the camera's (x * width / out_w, y * height / out_h). A picture that
// check_camera() refuses is black. `boxes` are best first and may reach beyond the picture; the best is drawn on top.
void overlay_rows(const CameraFrame& frame, const Detection* boxes, size_t count, uint16_t fps_x10,
                  uint16_t threshold_q16, uint16_t out_w, uint16_t out_h, uint16_t first_row, uint16_t rows,
                  uint16_t* rgb565_be);

}  // namespace uhd
