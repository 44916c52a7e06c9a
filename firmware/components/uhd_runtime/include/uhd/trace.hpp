// A hook after every step of generated code, for benchmarks. Costs nothing unless UHD_TRACE is defined.
#pragma once

#include <stdint.h>

#if defined(UHD_TRACE)
extern "C" void uhd_trace_step(uint32_t step);
#define UHD_TRACE_STEP(step) uhd_trace_step(step)
#else
#define UHD_TRACE_STEP(step) ((void)0)
#endif
