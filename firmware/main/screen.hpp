// The display's task: draws one picture while the detector works on the next.
#pragma once

#include <stdint.h>

#include "uhd/device.hpp"
#include "uhd/display.hpp"

namespace uhd {

class Screen final : public Viewer {
 public:
  Screen(Display& display, Camera& camera) : display_(display), camera_(camera) {}

  // Sets the display up and starts the task. After an error there is no task, and nothing may be shown.
  esp_err_t start();

  // Refuses a picture while the last one is still being drawn.
  bool show(const CameraFrame& frame, const Detection* rows, size_t count, uint16_t fps_x10,
            uint16_t score_threshold) override;

 private:
  static void task(void* screen) { static_cast<Screen*>(screen)->run(); }
  [[noreturn]] void run();

  Display& display_;
  Camera& camera_;
  DisplayJob job_ = {};
  bool busy_ = false;
};

}  // namespace uhd
