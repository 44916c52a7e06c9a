#include "uhd/capture.hpp"

#include "sdkconfig.h"

namespace uhd {
namespace {

// Waiting for a picture takes no time of the processor; the drivers' own tasks and interrupts are on this core too.
constexpr BaseType_t kCore = 0;
constexpr UBaseType_t kPriority = 6;
// How often a picture's absence is noticed, and whether everyone has given theirs back.
constexpr uint32_t kPollMs = 20;

StaticTask_t control;
StackType_t stack[CONFIG_UHD_CAPTURE_STACK / sizeof(StackType_t)];

void count(uint32_t* counter) { __atomic_fetch_add(counter, 1, __ATOMIC_RELAXED); }
uint32_t read(const uint32_t& counter) { return __atomic_load_n(&counter, __ATOMIC_RELAXED); }

}  // namespace

esp_err_t Capture::start() {
  const esp_err_t status = try_start();
  xTaskCreateStaticPinnedToCore(task, "capture", CONFIG_UHD_CAPTURE_STACK / sizeof(StackType_t), this, kPriority, stack,
                                &control, kCore);
  return status;
}

esp_err_t Capture::try_start() {
  const esp_err_t status = source_.start();
  __atomic_store_n(&error_, status, __ATOMIC_RELAXED);
  if (status == ESP_OK) __atomic_store_n(&state_, static_cast<uint8_t>(State::kRunning), __ATOMIC_RELEASE);
  return status;
}

void Capture::run() {
  for (;;) {
    if (state() == State::kRunning) {
      capture();
      set_up_again();
    } else {
      vTaskDelay(pdMS_TO_TICKS(kRetryMs));
      if (try_start() == ESP_OK && read(counters_.captured)) count(&counters_.restarts);
    }
  }
}

void Capture::capture() {
  uint32_t silent_ms = 0;
  while (silent_ms < kStallMs) {
    CameraFrame frame, dropped;
    if (!source_.next(&frame, kPollMs)) {
      // While others hold all the buffers it is not the camera that stands still.
      silent_ms = __atomic_load_n(&lent_, __ATOMIC_ACQUIRE) ? 0 : silent_ms + kPollMs;
      continue;
    }
    silent_ms = 0;
    count(&counters_.captured);
    if (newest_.put(frame, &dropped)) {
      count(&counters_.dropped);
      source_.release(dropped);
    }
  }
}

void Capture::set_up_again() {
  __atomic_store_n(&state_, static_cast<uint8_t>(State::kStopped), __ATOMIC_RELEASE);
  CameraFrame waiting;
  if (newest_.withdraw(&waiting)) source_.release(waiting);
  while (__atomic_load_n(&lent_, __ATOMIC_ACQUIRE)) vTaskDelay(pdMS_TO_TICKS(kPollMs));
  source_.stop();
  if (try_start() == ESP_OK) count(&counters_.restarts);
}

Status Capture::take(CameraFrame* frame) {
  // Counted before it is taken: the task that stops the camera must not overlook a picture on its way out.
  __atomic_fetch_add(&lent_, 1, __ATOMIC_ACQ_REL);
  if (newest_.take(frame)) return Status::Ok;
  __atomic_fetch_sub(&lent_, 1, __ATOMIC_ACQ_REL);
  return Status::NotFound;
}

void Capture::give_back(const CameraFrame& frame) {
  source_.release(frame);
  __atomic_fetch_sub(&lent_, 1, __ATOMIC_ACQ_REL);
}

CameraCounters Capture::counters() const {
  return {read(counters_.captured), read(counters_.dropped), read(counters_.restarts)};
}

}  // namespace uhd
