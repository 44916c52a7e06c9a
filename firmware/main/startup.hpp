// What is looked at once, when the program starts: why it starts, and what memory there is.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "uhd/boot_guard.hpp"

namespace uhd {

// Why the chip restarted. On the linux target the environment variable UHD_RESET_REASON (a number of ResetReason) says.
link::ResetReason reset_reason();

// The guard of this start, on a record that survives a reset.
BootGuard& boot_guard(link::ResetReason reason);

// False: the settings ask for PSRAM and none answers.
bool psram_is_there();

// Memory for activations where Kconfig wants it; null if there is none. `where` is "internal memory" or "PSRAM".
uint8_t* allocate_activations(size_t size, const char** where);

}  // namespace uhd
