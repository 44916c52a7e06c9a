// The board's SD card.
#pragma once

#include "esp_err.h"

namespace uhd {

// Mounts it at /sdcard, for reading. Allocates; unmount_sdcard() gives all of it back.
esp_err_t mount_sdcard();
void unmount_sdcard();

}  // namespace uhd
