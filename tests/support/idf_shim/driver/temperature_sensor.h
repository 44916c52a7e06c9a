#pragma once
#include "esp_err.h"
extern "C" {
typedef enum { TEMPERATURE_SENSOR_CLK_SRC_DEFAULT = 4 } temperature_sensor_clk_src_t;
typedef struct {
  int range_min;
  int range_max;
  temperature_sensor_clk_src_t clk_src;
  struct {
    unsigned allow_pd : 1;
  } flags;
} temperature_sensor_config_t;
typedef struct temperature_sensor* temperature_sensor_handle_t;
esp_err_t temperature_sensor_install(const temperature_sensor_config_t* config, temperature_sensor_handle_t* sensor);
esp_err_t temperature_sensor_enable(temperature_sensor_handle_t sensor);
esp_err_t temperature_sensor_get_celsius(temperature_sensor_handle_t sensor, float* celsius);
}
