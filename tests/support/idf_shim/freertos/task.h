#pragma once
#include <stddef.h>
#include <unistd.h>
#include "FreeRTOS.h"
static inline void vTaskDelay(TickType_t ticks) { ticks == portMAX_DELAY ? (void)pause() : (void)usleep(1000 * ticks); }
static inline UBaseType_t uxTaskGetStackHighWaterMark(TaskHandle_t) { return 0; }
// One task is all there is: it runs in the caller.
static inline TaskHandle_t xTaskCreateStaticPinnedToCore(TaskFunction_t code, const char*, uint32_t, void* argument,
                                                         UBaseType_t, StackType_t*, StaticTask_t*, BaseType_t) {
  code(argument);
  return NULL;
}
