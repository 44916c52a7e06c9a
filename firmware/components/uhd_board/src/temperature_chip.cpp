#include "driver/temperature_sensor.h"
#include "uhd/device.hpp"
#include "uhd/temperature.hpp"

namespace uhd {
namespace {

temperature_sensor_handle_t sensor = nullptr;

}  // namespace

esp_err_t start_temperature() {
  temperature_sensor_config_t config = {};
  config.range_min = -10;  // the range in which the sensor errs least: by 1 degree
  config.range_max = 80;
  config.clk_src = TEMPERATURE_SENSOR_CLK_SRC_DEFAULT;
  temperature_sensor_handle_t made = nullptr;
  esp_err_t status = temperature_sensor_install(&config, &made);
  if (status == ESP_OK) status = temperature_sensor_enable(made);
  if (status == ESP_OK) sensor = made;
  return status;
}

int16_t chip_temperature() {
  float celsius = 0;
  if (!sensor || temperature_sensor_get_celsius(sensor, &celsius) != ESP_OK) return kNoTemperature;
  return static_cast<int16_t>(celsius * 10 + (celsius < 0 ? -0.5f : 0.5f));
}

}  // namespace uhd
