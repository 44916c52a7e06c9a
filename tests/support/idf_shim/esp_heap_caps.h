#pragma once
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include "esp_err.h"
#define MALLOC_CAP_8BIT (1u << 2)
#define MALLOC_CAP_SPIRAM (1u << 10)
#define MALLOC_CAP_INTERNAL (1u << 11)
// SHIM_NO_MEMORY: "internal" refuses internal memory, "all" refuses both.
static inline void* heap_caps_aligned_alloc(size_t alignment, size_t size, uint32_t caps) {
  const char* refuse = getenv("SHIM_NO_MEMORY");
  if (refuse && (refuse[0] == 'a' || (caps & MALLOC_CAP_INTERNAL))) return NULL;
  return aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
}
static inline size_t heap_caps_get_free_size(uint32_t) { return 0; }
static inline size_t heap_caps_get_minimum_free_size(uint32_t) { return 0; }
