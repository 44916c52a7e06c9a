// A camera behind esp32-camera's interface: what it refuses and when it delivers is set by shim_set().
#include <string.h>

#include "clock.hpp"
#include "esp_camera.h"
#include "esp_heap_caps.h"

int64_t shim_now_us = 1000000;
size_t shim_psram = 8u << 20;

namespace {

enum { kInitError, kRefusedFormat, kPeriodMs, kShortBy, kInitialised, kPlace, kBuffers, kVflip, kMirror, kGetWaits, kFormat,
       kSettings };
int setting[kSettings] = {0, -1, 40, 0, 0, -1, 0, 0, 0, 0, -1};
int64_t last_us = 0;
constexpr int kMost = 8;
uint8_t memory[kMost][240 * 240 * 2];
camera_fb_t pool[kMost];
bool taken[kMost];
int waiting = -1, number = 0;

void play() {
  while (setting[kInitialised] && setting[kPeriodMs] && shim_now_us - last_us >= 1000ll * setting[kPeriodMs]) {
    last_us += 1000ll * setting[kPeriodMs];
    int free = waiting;  // a newer picture replaces the one that waits
    for (int i = 0; free < 0 && i < setting[kBuffers]; i++) {
      if (!taken[i]) free = i;
    }
    if (free < 0) continue;
    memset(memory[free], ++number, sizeof(memory[free]));
    pool[free] = {memory[free], sizeof(memory[free]) - static_cast<size_t>(setting[kShortBy]), 240, 240};
    waiting = free;
  }
}

int set_pixformat(sensor_t*, pixformat_t format) {
  setting[kFormat] = format;
  return format == setting[kRefusedFormat] ? -1 : 0;
}
int set_vflip(sensor_t*, int on) { return setting[kVflip] = on, 0; }
int set_hmirror(sensor_t*, int on) { return setting[kMirror] = on, 0; }
sensor_t the_sensor = {set_pixformat, set_vflip, set_hmirror};

}  // namespace

void shim_wait(uint32_t milliseconds) {
  shim_now_us += 1000ll * milliseconds;
  play();
}

extern "C" {

esp_err_t esp_camera_init(const camera_config_t* config) {
  if (setting[kInitError]) return setting[kInitError];
  if (setting[kInitialised]) return ESP_ERR_INVALID_STATE;
  setting[kInitialised] = 1;
  setting[kPlace] = config->fb_location;
  setting[kBuffers] = static_cast<int>(config->fb_count);
  setting[kFormat] = config->pixel_format;
  last_us = shim_now_us;
  waiting = -1;
  memset(taken, 0, sizeof(taken));
  return ESP_OK;
}
esp_err_t esp_camera_deinit(void) {
  if (!setting[kInitialised]) return ESP_FAIL;
  setting[kInitialised] = 0;
  waiting = -1;
  return ESP_OK;
}
bool esp_camera_available_frames(void) { return waiting >= 0; }
camera_fb_t* esp_camera_fb_get(void) {
  if (waiting < 0) {
    setting[kGetWaits]++;
    shim_wait(4000);
  }
  if (waiting < 0) return nullptr;
  camera_fb_t* picture = &pool[waiting];
  taken[waiting] = true;
  waiting = -1;
  return picture;
}
void esp_camera_fb_return(camera_fb_t* picture) { taken[picture - pool] = false; }
sensor_t* esp_camera_sensor_get(void) { return setting[kInitialised] ? &the_sensor : nullptr; }

void shim_set(int which, int value) { setting[which] = value; }
int shim_get(int which) { return setting[which]; }
void shim_set_psram(int bytes) { shim_psram = static_cast<size_t>(bytes); }
uint32_t shim_clock_ms(void) { return static_cast<uint32_t>(shim_now_us / 1000); }

}  // extern "C"
