// The firmware: one task that answers the link, with the model in components/uhd_model.
#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>

#include "esp_heap_caps.h"
#include "esp_log.h"
#include "freertos/FreeRTOS.h"
#include "freertos/task.h"
#include "sdkconfig.h"
#include "uhd/device.hpp"
#include "uhd/link_port.hpp"
#include "uhd/model.hpp"
#if CONFIG_ESP_TASK_WDT_INIT
#include "esp_task_wdt.h"
#endif

namespace {

constexpr char kTag[] = "uhd";

// The longest sleep without traffic. Shorter than the task watchdog's time, which it feeds.
constexpr uint32_t kIdleMs = 1000;

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

// Activations in internal memory, which is several times faster than PSRAM; in PSRAM if they are too large for it.
uint8_t* allocate(size_t size) {
  constexpr uint32_t kInternal = MALLOC_CAP_INTERNAL | MALLOC_CAP_8BIT;
  if (void* memory = heap_caps_aligned_alloc(uhd::kArenaAlignment, size, kInternal)) {
    return static_cast<uint8_t*>(memory);
  }
  void* memory = heap_caps_aligned_alloc(uhd::kArenaAlignment, size, MALLOC_CAP_SPIRAM | MALLOC_CAP_8BIT);
  if (memory) ESP_LOGW(kTag, "activations are in PSRAM: %zu bytes do not fit internal memory", size);
  return static_cast<uint8_t*>(memory);
}

[[noreturn]] void detector_task(void*) {
  const uhd::ModelInfo& model = uhd::model_info();
  ESP_LOGI(kTag, "model %s for %s, %" PRIu32 " bytes", model.name, model.target, model.espdl_size);

  uhd::LinkPort& port = uhd::link_port();
  const esp_err_t opened = port.open();
  if (opened != ESP_OK) {
    ESP_LOGE(kTag, "the link does not open: %s", esp_err_to_name(opened));
    for (;;) vTaskDelay(portMAX_DELAY);  // a restart would fail in the same way
  }
  // The last allocation: everything after it works in memory that is already there.
  const size_t needed = uhd::Device::memory_needed(model);
  uint8_t* memory = allocate(needed);

  static uhd::Device device(model, uhd::model_run, port, {"reference", port.credit()});
  device.start(memory, memory ? needed : 0);
  if (device.health() != uhd::link::Health::kOk) {
    // The device answers all the same, and tells the host.
    ESP_LOGE(kTag, "no inference, health %d (docs/protocol.md); %zu bytes needed, %zu free", static_cast<int>(device.health()),
             needed, heap_caps_get_free_size(MALLOC_CAP_8BIT));
  }
  ESP_LOGI(kTag, "ready on %s; stack: %u bytes never used", port.name(),
           static_cast<unsigned>(uxTaskGetStackHighWaterMark(nullptr) * sizeof(StackType_t)));
  watch_task();
  for (;;) {
    feed_watchdog();
    if (!device.poll()) port.wait(kIdleMs);
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
