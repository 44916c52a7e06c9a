#pragma once
#include <stdint.h>
#include "esp_err.h"
#define ESP_ERR_NOT_SUPPORTED 0x106
typedef enum { GPIO_NUM_NC = -1, GPIO_NUM_7 = 7, GPIO_NUM_8 = 8 } gpio_num_t;
typedef struct {
  bool init_sccb;
  struct { uint8_t port; gpio_num_t scl_pin, sda_pin; } i2c_config;
  uint32_t freq;
} esp_video_init_sccb_config_t;
typedef struct {
  esp_video_init_sccb_config_t sccb_config;
  gpio_num_t reset_pin, pwdn_pin;
} esp_video_init_csi_config_t;
typedef struct { const esp_video_init_csi_config_t* csi; } esp_video_init_config_t;
extern "C" esp_err_t esp_video_init(const esp_video_init_config_t* config);
extern "C" esp_err_t esp_video_deinit(void);
