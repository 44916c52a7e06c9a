#include "startup.hpp"

#include <stdlib.h>

#include "esp_attr.h"
#include "esp_heap_caps.h"
#include "esp_system.h"
#include "sdkconfig.h"
#include "uhd/model.hpp"
#if CONFIG_SPIRAM
#include "esp_psram.h"
#endif

namespace uhd {
namespace {

#if CONFIG_IDF_TARGET_LINUX
// A program has no memory that survives its restart: a test says how often it has failed before.
BootRecord record;
#else
RTC_NOINIT_ATTR BootRecord record;
#endif

}  // namespace

link::ResetReason reset_reason() {
  using link::ResetReason;
#if CONFIG_IDF_TARGET_LINUX
  const char* text = getenv("UHD_RESET_REASON");
  return text ? static_cast<ResetReason>(atoi(text)) : ResetReason::kPowerOn;
#else
  switch (esp_reset_reason()) {
    case ESP_RST_POWERON:
    case ESP_RST_EXT: return ResetReason::kPowerOn;
    case ESP_RST_SW:
    case ESP_RST_DEEPSLEEP:
    case ESP_RST_SDIO:
    case ESP_RST_USB:
    case ESP_RST_JTAG: return ResetReason::kSoftware;
    case ESP_RST_PANIC:
    case ESP_RST_CPU_LOCKUP: return ResetReason::kPanic;
    case ESP_RST_INT_WDT:
    case ESP_RST_TASK_WDT:
    case ESP_RST_WDT: return ResetReason::kWatchdog;
    case ESP_RST_BROWNOUT:
    case ESP_RST_PWR_GLITCH: return ResetReason::kBrownOut;
    default: return ResetReason::kUnknown;
  }
#endif
}

BootGuard& boot_guard(link::ResetReason reason) {
#if CONFIG_IDF_TARGET_LINUX
  const char* text = getenv("UHD_RESET_FAILURES");
  const uint32_t failures = text ? static_cast<uint32_t>(atoi(text)) : 0;
  record = {BootGuard::kMagic, failures, ~failures};
#endif
  static BootGuard guard(&record, reason);
  return guard;
}

bool psram_is_there() {
#if CONFIG_SPIRAM
  return esp_psram_is_initialized();
#else
  return true;
#endif
}

uint8_t* allocate_activations(size_t size, const char** where) {
#if CONFIG_IDF_TARGET_LINUX
  if (getenv("UHD_NO_MEMORY")) return nullptr;
#endif
#if !CONFIG_UHD_ACTIVATIONS_PSRAM
  *where = "internal memory";
  if (void* memory = heap_caps_aligned_alloc(kArenaAlignment, size, MALLOC_CAP_INTERNAL | MALLOC_CAP_8BIT)) {
    return static_cast<uint8_t*>(memory);
  }
#endif
#if !CONFIG_UHD_ACTIVATIONS_INTERNAL
  *where = "PSRAM";
  return static_cast<uint8_t*>(heap_caps_aligned_alloc(kArenaAlignment, size, MALLOC_CAP_SPIRAM | MALLOC_CAP_8BIT));
#else
  return nullptr;
#endif
}

}  // namespace uhd
