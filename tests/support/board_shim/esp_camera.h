// The part of esp32-camera's interface that the driver uses; ov2640.cpp beside it plays the camera.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "esp_err.h"
#define ESP_ERR_NOT_SUPPORTED 0x106
typedef enum { PIXFORMAT_RGB565, PIXFORMAT_YUV422 } pixformat_t;
typedef enum { FRAMESIZE_96X96, FRAMESIZE_240X240, FRAMESIZE_QVGA, FRAMESIZE_VGA } framesize_t;
typedef enum { CAMERA_FB_IN_PSRAM, CAMERA_FB_IN_DRAM } camera_fb_location_t;
typedef enum { CAMERA_GRAB_WHEN_EMPTY, CAMERA_GRAB_LATEST } camera_grab_mode_t;
typedef enum { LEDC_TIMER_0 } ledc_timer_t;
typedef enum { LEDC_CHANNEL_0 } ledc_channel_t;
typedef struct {
  int pin_pwdn, pin_reset, pin_xclk, pin_sccb_sda, pin_sccb_scl;
  int pin_d7, pin_d6, pin_d5, pin_d4, pin_d3, pin_d2, pin_d1, pin_d0, pin_vsync, pin_href, pin_pclk;
  int xclk_freq_hz;
  ledc_timer_t ledc_timer;
  ledc_channel_t ledc_channel;
  pixformat_t pixel_format;
  framesize_t frame_size;
  size_t fb_count;
  camera_fb_location_t fb_location;
  camera_grab_mode_t grab_mode;
} camera_config_t;
typedef struct {
  uint8_t* buf;
  size_t len, width, height;
} camera_fb_t;
typedef struct sensor {
  int (*set_pixformat)(struct sensor*, pixformat_t);
  int (*set_vflip)(struct sensor*, int);
  int (*set_hmirror)(struct sensor*, int);
} sensor_t;
extern "C" {
esp_err_t esp_camera_init(const camera_config_t* config);
esp_err_t esp_camera_deinit(void);
bool esp_camera_available_frames(void);
camera_fb_t* esp_camera_fb_get(void);
void esp_camera_fb_return(camera_fb_t* picture);
sensor_t* esp_camera_sensor_get(void);
}
