#include "uhd/device.hpp"
#include "uhd/temperature.hpp"

namespace uhd {

esp_err_t start_temperature() { return ESP_OK; }
int16_t chip_temperature() { return kNoTemperature; }

}  // namespace uhd
