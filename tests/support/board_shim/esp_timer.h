#pragma once
#include "clock.hpp"
static inline int64_t esp_timer_get_time(void) { return shim_now_us; }
