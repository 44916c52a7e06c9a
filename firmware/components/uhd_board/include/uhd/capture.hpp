// The task that captures: keeps the newest picture of a FrameSource ready, and sets the camera up again when it stops.
#pragma once

#include <stdint.h>

#include "esp_err.h"
#include "freertos/FreeRTOS.h"
#include "freertos/task.h"
#include "uhd/camera.hpp"
#include "uhd/frame_source.hpp"
#include "uhd/newest.hpp"

namespace uhd {

class Capture final : public Camera {
 public:
  enum class State : uint8_t {
    kMissing,  // has never started; tried again every kRetryMs
    kRunning,
    kStopped,  // delivered no picture for kStallMs; being set up again
  };
  static constexpr uint32_t kStallMs = 2000;
  static constexpr uint32_t kRetryMs = 5000;

  explicit Capture(FrameSource& source) : source_(source) {}

  // Sets the camera up, and starts the task. An error is the camera's; the task goes on trying.
  esp_err_t start();

  State state() const { return static_cast<State>(__atomic_load_n(&state_, __ATOMIC_ACQUIRE)); }
  // Of the last attempt to set the camera up.
  esp_err_t error() const { return __atomic_load_n(&error_, __ATOMIC_RELAXED); }

  Status take(CameraFrame* frame) override;
  void give_back(const CameraFrame& frame) override;
  CameraCounters counters() const override;

 private:
  static void task(void* capture) { static_cast<Capture*>(capture)->run(); }
  [[noreturn]] void run();
  void capture();
  void set_up_again();
  esp_err_t try_start();

  FrameSource& source_;
  NewestFrame newest_;
  uint8_t state_ = static_cast<uint8_t>(State::kMissing);
  esp_err_t error_ = ESP_OK;
  int32_t lent_ = 0;  // pictures taken and not yet given back
  CameraCounters counters_ = {};
};

}  // namespace uhd
