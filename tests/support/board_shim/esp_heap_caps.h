#pragma once
#include <stddef.h>
#include <stdint.h>
#define MALLOC_CAP_SPIRAM (1u << 10)
extern size_t shim_psram;
static inline size_t heap_caps_get_total_size(uint32_t) { return shim_psram; }
