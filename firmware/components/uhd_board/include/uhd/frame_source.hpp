// The camera driver of a board. The task that captures pictures (uhd/camera.hpp) sits on top of it.
#pragma once

#include <stdint.h>

#include "esp_err.h"
#include "uhd/camera.hpp"

namespace uhd {

class FrameSource {
 public:
  // Sensor and pixel order, for the log.
  virtual const char* name() const = 0;

  // Sets the sensor up. The only call that allocates. May be called again after stop(); after an error nothing is
  // left behind, and stop() need not be called.
  virtual esp_err_t start() = 0;
  // All pictures must have been released, and nobody may be inside next(). Does nothing if the source is not started.
  virtual void stop() = 0;

  // Waits for the next picture, in the task that captures; false if none came within `milliseconds`, or not started.
  // The picture has passed check_camera(). A source may hold its pictures back while all its buffers are taken.
  virtual bool next(CameraFrame* frame, uint32_t milliseconds) = 0;
  // Gives a picture's buffer back to the sensor. May be called from another task than next().
  virtual void release(const CameraFrame& frame) = 0;

 protected:
  ~FrameSource() = default;
};

// The camera that Kconfig chose ("UHD board"); null if there is none.
FrameSource* frame_source();

}  // namespace uhd
