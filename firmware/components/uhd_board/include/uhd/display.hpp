// The board's display: the camera's picture with what was found in it (uhd/overlay.hpp).
#pragma once

#include <stdint.h>

#include "esp_err.h"
#include "uhd/camera.hpp"
#include "uhd/decode.hpp"

namespace uhd {

struct DisplayJob {
  CameraFrame frame;
  Detection boxes[16];  // best first
  uint8_t count;
  uint16_t fps_x10;  // pictures a second, in tenths
  uint16_t score_threshold_q16;
};

class Display {
 public:
  // Sets the display up; it is black then. The only call that allocates; once.
  virtual esp_err_t start() = 0;
  // Draws, in the caller's task; on return the frame may be given back. Does nothing unless start() succeeded.
  virtual void show(const DisplayJob& job) = 0;

 protected:
  ~Display() = default;
};

// The display of this board; null if there is none, or Kconfig says so.
Display* display();

}  // namespace uhd
