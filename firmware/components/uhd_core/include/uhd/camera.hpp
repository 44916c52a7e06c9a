// The device's own camera, as the device's loop sees it. Boards implement it (component uhd_board).
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "uhd/preprocess.hpp"
#include "uhd/status.hpp"

namespace uhd {

// A picture that the camera has written and leaves alone until it is given back.
struct CameraFrame {
  CameraPicture picture;  // width, height, stride
  PixelFormat format;
  const uint8_t* data;
  uint32_t size;         // bytes at `data`
  uint64_t captured_us;  // since boot, when the picture was complete
  void* handle;          // the driver's
};

struct CameraCounters {
  uint32_t captured;  // pictures that the camera delivered
  uint32_t dropped;   // of those, the ones that a newer picture replaced before anyone took them
  uint32_t restarts;  // times the camera was set up again because it had stopped
};

// Newest-frame policy: whoever takes a picture gets the latest one; older ones are given back and counted as dropped.
class Camera {
 public:
  // Takes the newest picture that nobody has taken yet; NotFound if there is none. Never waits.
  virtual Status take(CameraFrame* frame) = 0;
  virtual void give_back(const CameraFrame& frame) = 0;
  virtual CameraCounters counters() const = 0;

 protected:
  ~Camera() = default;
};

}  // namespace uhd
