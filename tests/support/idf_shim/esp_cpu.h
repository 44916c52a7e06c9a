#pragma once
#include <stdint.h>
#ifdef SHIM_CYCLES  // a variable of the harness
extern uint32_t SHIM_CYCLES;
static inline uint32_t esp_cpu_get_cycle_count(void) { return SHIM_CYCLES; }
#else
static inline uint32_t esp_cpu_get_cycle_count(void) { return 0; }
#endif
