// Time that passes only where a driver waits.
#pragma once
#include <stdint.h>
extern int64_t shim_now_us;
void shim_wait(uint32_t milliseconds);  // the camera goes on meanwhile
