// The board's button: what a press is, and what it does to the score threshold.
#pragma once

#include <stdint.h>

namespace uhd {

// Tells presses from bounces. Ask it often: a press shorter than the time between two calls is not seen.
class Debouncer {
 public:
  static constexpr uint32_t kStableMs = 30;

  // True once a press: when the contact has been closed at every call for kStableMs, having been open as long before.
  bool update(bool is_closed, uint32_t now_ms) {
    if (is_closed != is_closed_) {
      is_closed_ = is_closed;
      since_ms_ = now_ms;
      return false;
    }
    if (is_closed_ == is_down_ || now_ms - since_ms_ < kStableMs) return false;
    is_down_ = is_closed_;
    return is_down_;
  }

 private:
  // As if it were held at the start: the BOOT button may be.
  bool is_closed_ = true;
  bool is_down_ = true;
  uint32_t since_ms_ = 0;
};

// The threshold after a press, in 1/65535: the model's own, then 0.2, 0.35, 0.5, 0.65, then the model's own again. From
// a threshold that is none of these (a host may set any) to the next higher step.
inline uint16_t next_threshold(uint16_t current_q16, uint16_t model_q16) {
  constexpr uint16_t kSteps[] = {13107, 22937, 32768, 42598};
  if (current_q16 == model_q16) return model_q16 == kSteps[0] ? kSteps[1] : kSteps[0];
  for (uint16_t step : kSteps) {
    if (step > current_q16 && step != model_q16) return step;
  }
  return model_q16;
}

// True once for every press of the board's button since the last call. Polled: at least ten times a second. Always
// false without a button, or if Kconfig says so.
bool button_pressed();

}  // namespace uhd
