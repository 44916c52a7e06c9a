#include "screen.hpp"

#include "freertos/FreeRTOS.h"
#include "freertos/task.h"
#include "sdkconfig.h"

namespace uhd {
namespace {

// Below everything else on core 0: a late picture on the display costs no detection.
constexpr BaseType_t kCore = 0;
constexpr UBaseType_t kPriority = 2;

StaticTask_t control;
StackType_t stack[CONFIG_UHD_SCREEN_STACK / sizeof(StackType_t)];
TaskHandle_t handle;

}  // namespace

esp_err_t Screen::start() {
  const esp_err_t status = display_.start();
  if (status != ESP_OK) return status;
  handle = xTaskCreateStaticPinnedToCore(task, "screen", CONFIG_UHD_SCREEN_STACK / sizeof(StackType_t), this, kPriority,
                                         stack, &control, kCore);
  return ESP_OK;
}

bool Screen::show(const CameraFrame& frame, const Detection* rows, size_t count, uint16_t fps_x10,
                  uint16_t score_threshold) {
  if (__atomic_load_n(&busy_, __ATOMIC_ACQUIRE)) return false;
  constexpr size_t kMost = sizeof(job_.boxes) / sizeof(job_.boxes[0]);
  job_.frame = frame;
  job_.count = static_cast<uint8_t>(count < kMost ? count : kMost);
  for (uint8_t i = 0; i < job_.count; i++) job_.boxes[i] = rows[i];
  job_.fps_x10 = fps_x10;
  job_.score_threshold_q16 = score_threshold;
  __atomic_store_n(&busy_, true, __ATOMIC_RELEASE);
  xTaskNotifyGive(handle);
  return true;
}

void Screen::run() {
  for (;;) {
    ulTaskNotifyTake(pdTRUE, portMAX_DELAY);
    if (!__atomic_load_n(&busy_, __ATOMIC_ACQUIRE)) continue;
    display_.show(job_);
    camera_.give_back(job_.frame);
    __atomic_store_n(&busy_, false, __ATOMIC_RELEASE);
  }
}

}  // namespace uhd
