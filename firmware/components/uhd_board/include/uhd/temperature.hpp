// The chip's own temperature sensor, if it has one and Kconfig wants it.
#pragma once

#include <stdint.h>

#include "esp_err.h"

namespace uhd {

// Sets the driver up. Allocates; once, before anything asks. Without a sensor it does nothing.
esp_err_t start_temperature();

// Tenths of a degree Celsius; kNoTemperature (uhd/device.hpp) without a sensor or where it cannot be read.
int16_t chip_temperature();

}  // namespace uhd
