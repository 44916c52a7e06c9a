// The firmware: camera, detector, display and link, each in its task (docs/firmware.md has the picture).
#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "esp_heap_caps.h"
#include "esp_log.h"
#include "freertos/FreeRTOS.h"
#include "freertos/task.h"
#include "inference.hpp"
#include "screen.hpp"
#include "sdkconfig.h"
#include "startup.hpp"
#include "uhd/button.hpp"
#include "uhd/capture.hpp"
#include "uhd/device.hpp"
#include "uhd/link_port.hpp"
#include "uhd/temperature.hpp"
#if CONFIG_ESP_TASK_WDT_INIT
#include "esp_task_wdt.h"
#endif

namespace {

using uhd::link::ErrorCode;
using uhd::link::Health;

constexpr char kTag[] = "uhd";

// The longest sleep without traffic. Shorter than the task watchdog's time, which it feeds.
constexpr uint32_t kIdleMs = 1000;
// With a camera: how long a picture may lie there before it is seen, at most. A tick is 1 ms.
constexpr uint32_t kCameraMs = 2;

StaticTask_t task_control;
StackType_t task_stack[CONFIG_UHD_TASK_STACK / sizeof(StackType_t)];

void watch_task() {
#if CONFIG_ESP_TASK_WDT_INIT
  // A model slower than the watchdog's time brings a warning on the console, no reset: ESP_TASK_WDT_PANIC is off.
  if (esp_task_wdt_add(nullptr) != ESP_OK) ESP_LOGW(kTag, "the watchdog does not watch this task");
#endif
}

void feed_watchdog() {
#if CONFIG_ESP_TASK_WDT_INIT
  esp_task_wdt_reset();
#endif
}

// Says it on the console and, with the same number, to the host.
void report(uhd::Device* device, ErrorCode code, const char* detail) {
  char text[160];
  snprintf(text, sizeof(text), "%s%s%s%s", uhd::link::error_text(code), detail ? " (" : "", detail ? detail : "",
           detail ? ")" : "");
  ESP_LOGE(kTag, "fault %d: %s", static_cast<int>(code), text);
  device->fault(code, text);
}

// Gives the device its memory and its model, or says why it has none.
void start_device(uhd::Device* device, const uhd::Inference& inference, bool may_start) {
  if (!may_start) {
    device->refuse(Health::kRestarts);
    return report(device, ErrorCode::kRestarts, nullptr);
  }
  if (!inference.model) {
    device->refuse(Health::kBackend);
    return report(device, ErrorCode::kModelRefused, inference.why);
  }
  const size_t needed = uhd::Device::memory_needed(*inference.model);
  const char* where = "";
  uint8_t* memory = uhd::allocate_activations(needed, &where);
  device->start(memory, memory ? needed : 0);
  if (memory) {
    ESP_LOGI(kTag, "%zu bytes of activations in %s", needed, where);
  } else {
    char text[64];
    snprintf(text, sizeof(text), "%zu bytes needed, %zu free", needed, heap_caps_get_free_size(MALLOC_CAP_8BIT));
    report(device, ErrorCode::kNoMemory, text);
  }
  if (device->health() != Health::kOk) {
    ESP_LOGE(kTag, "no inference, health %d: %s", static_cast<int>(device->health()),
             uhd::link::health_text(device->health()));
  }
}

// Camera and display, if this board has them and Kconfig wants them.
uhd::Capture* start_camera(uhd::Device* device) {
  uhd::FrameSource* source = uhd::frame_source();
  if (!source) return nullptr;
  static uhd::Capture capture(*source);
  if (capture.start() == ESP_OK) ESP_LOGI(kTag, "camera %s", source->name());
  uhd::Viewer* viewer = nullptr;
  if (uhd::Display* display = uhd::display()) {
    static uhd::Screen screen(*display, capture);
    const esp_err_t status = screen.start();
    if (status == ESP_OK) {
      viewer = &screen;
    } else {
      report(device, ErrorCode::kDisplayMissing, esp_err_to_name(status));
    }
  }
  device->attach(&capture, viewer);
  return &capture;
}

// What may change while the program runs, and is nobody's answer.
class Supervisor {
 public:
  Supervisor(uhd::Device* device, uhd::LinkPort* port, uhd::Capture* capture, uhd::BootGuard* guard)
      : device_(device), port_(port), capture_(capture), guard_(guard) {}

  void look() {
    const uint64_t now = port_->micros();
    if (now - last_us_ < kEveryUs) return;
    last_us_ = now;
    guard_->running(now);
    if (capture_) look_at_camera();
    if (!port_->is_stalled() && port_->dropped_bytes() != dropped_) {
      char text[40];
      snprintf(text, sizeof(text), "%" PRIu32 " bytes", port_->dropped_bytes() - dropped_);
      dropped_ = port_->dropped_bytes();
      report(device_, ErrorCode::kLinkStalled, text);
      device_->mended(ErrorCode::kLinkStalled);  // it reads again, or this could not be said
    }
    if (uhd::button_pressed()) {
      device_->set_score_threshold(uhd::next_threshold(device_->score_threshold(), device_->own_threshold()));
      ESP_LOGI(kTag, "score threshold %u %%", (100u * device_->score_threshold() + 32767) / 65535);
    }
  }

 private:
  // The button's bounce takes about so long.
  static constexpr uint64_t kEveryUs = 10000;

  void look_at_camera() {
    using State = uhd::Capture::State;
    const State state = capture_->state();
    const uint32_t restarts = capture_->counters().restarts;
    const bool missing = device_->has_fault(ErrorCode::kCameraMissing);
    const bool stopped = device_->has_fault(ErrorCode::kCameraStopped);
    if (state == State::kMissing && !missing) {
      report(device_, ErrorCode::kCameraMissing, esp_err_to_name(capture_->error()));
    } else if ((state == State::kStopped && !stopped) || (restarts != restarts_ && !stopped && !missing)) {
      report(device_, ErrorCode::kCameraStopped, nullptr);  // it may be over by now, if an inference took long
    } else if (state == State::kRunning && (missing || stopped)) {
      device_->mended(ErrorCode::kCameraMissing);
      device_->mended(ErrorCode::kCameraStopped);
      ESP_LOGI(kTag, "the camera works");
    }
    restarts_ = restarts;
  }

  uhd::Device* device_;
  uhd::LinkPort* port_;
  uhd::Capture* capture_;
  uhd::BootGuard* guard_;
  uint64_t last_us_ = 0;
  uint32_t dropped_ = 0;
  uint32_t restarts_ = 0;
};

[[noreturn]] void detector_task(void*) {
  const uhd::link::ResetReason reason = uhd::reset_reason();
  uhd::BootGuard& guard = uhd::boot_guard(reason);
  uhd::LinkPort& port = uhd::link_port();
  const esp_err_t opened = port.open();
  if (opened != ESP_OK) {
    ESP_LOGE(kTag, "the link does not open: %s", esp_err_to_name(opened));
    for (;;) vTaskDelay(portMAX_DELAY);  // a restart would fail in the same way
  }
  const esp_err_t sensor = uhd::start_temperature();
  if (sensor != ESP_OK) ESP_LOGW(kTag, "the temperature sensor does not start: %s", esp_err_to_name(sensor));
  const bool may_start = guard.may_start();
  const uhd::Inference inference = uhd::open_inference(may_start);
  const uhd::ModelInfo& model = inference.model ? *inference.model : uhd::model_info();
  ESP_LOGI(kTag, "model %s for %s, %" PRIu32 " bytes, backend %s", model.name, model.target, model.espdl_size,
           inference.backend->name);
  constexpr uint32_t kWhole = 65535;
  static uhd::Device device(model, inference.backend->run, port,
                            {inference.backend->name, port.credit(), reason,
                             static_cast<uint16_t>(CONFIG_UHD_SCORE_THRESHOLD * kWhole / 100),
                             static_cast<uint16_t>(CONFIG_UHD_NMS_IOU * kWhole / 100)});
  if (reason == uhd::link::ResetReason::kBrownOut) report(&device, ErrorCode::kBrownOut, nullptr);
  if (!uhd::psram_is_there()) report(&device, ErrorCode::kPsramMissing, nullptr);
  start_device(&device, inference, may_start);
  uhd::Capture* capture = device.health() == Health::kOk ? start_camera(&device) : nullptr;
  ESP_LOGI(kTag, "ready on %s; stack: %u bytes never used", port.name(),
           static_cast<unsigned>(uxTaskGetStackHighWaterMark(nullptr) * sizeof(StackType_t)));
  // After this line nothing of ours allocates, but a camera that has to be set up again.
  watch_task();
  Supervisor supervisor(&device, &port, capture, &guard);
  for (;;) {
    feed_watchdog();
    supervisor.look();
    const bool heard = device.poll();
    const bool saw = device.watch();
    if (!heard && !saw) port.wait(capture ? kCameraMs : kIdleMs);
  }
}

}  // namespace

extern "C" void app_main(void) {
  xTaskCreateStaticPinnedToCore(detector_task, "detector", CONFIG_UHD_TASK_STACK / sizeof(StackType_t), nullptr,
                                CONFIG_UHD_TASK_PRIORITY, task_stack, &task_control, CONFIG_UHD_TASK_CORE);
#if CONFIG_IDF_TARGET_LINUX
  // Returning ends this task, and where tasks are threads the scheduler can then wait for ever for a lock that the ended
  // thread still holds (seen with ESP-IDF 6.2, in one of twenty starts on a busy machine).
  for (;;) vTaskDelay(portMAX_DELAY);
#endif
}
