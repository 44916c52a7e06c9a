#pragma once
#include "FreeRTOS.h"
#include "clock.hpp"
static inline void vTaskDelay(TickType_t ticks) { shim_wait(ticks); }
static inline TickType_t xTaskGetTickCount(void) { return (TickType_t)(shim_now_us / 1000); }
