// The OV2640 of the ESP32-S3-EYE, on ESP-IDF's esp32-camera.
//
// In YUV 4:2:2 the sensor sends bytes Y0 U Y1 V, in RGB565 the high byte first; the driver stores them in that order.
#include "esp_camera.h"
#include "esp_heap_caps.h"
#include "esp_log.h"
#include "esp_timer.h"
#include "freertos/FreeRTOS.h"
#include "freertos/task.h"
#include "sdkconfig.h"
#include "uhd/camera_view.hpp"
#include "uhd/frame_source.hpp"

namespace uhd {
namespace {

constexpr char kTag[] = "camera";

#if CONFIG_UHD_CAMERA_96X96
constexpr framesize_t kSize = FRAMESIZE_96X96;
#elif CONFIG_UHD_CAMERA_240X240
constexpr framesize_t kSize = FRAMESIZE_240X240;
#elif CONFIG_UHD_CAMERA_QVGA
constexpr framesize_t kSize = FRAMESIZE_QVGA;
#elif CONFIG_UHD_CAMERA_VGA
constexpr framesize_t kSize = FRAMESIZE_VGA;
#endif

#if CONFIG_UHD_CAMERA_YUV422
constexpr pixformat_t kFormat = PIXFORMAT_YUV422;
#elif CONFIG_UHD_CAMERA_RGB565
constexpr pixformat_t kFormat = PIXFORMAT_RGB565;
#endif

// One that is being filled, one that waits, one in the detector's hands, and one on the display.
#if CONFIG_UHD_DISPLAY
constexpr size_t kBuffers = 4;
#else
constexpr size_t kBuffers = 3;
#endif

camera_config_t configuration(pixformat_t format) {
  camera_config_t config = {};
  config.pin_pwdn = -1;
  config.pin_reset = -1;
  config.pin_xclk = 15;
  config.pin_sccb_sda = 4;
  config.pin_sccb_scl = 5;
  config.pin_d7 = 16;
  config.pin_d6 = 17;
  config.pin_d5 = 18;
  config.pin_d4 = 12;
  config.pin_d3 = 10;
  config.pin_d2 = 8;
  config.pin_d1 = 9;
  config.pin_d0 = 11;
  config.pin_vsync = 6;
  config.pin_href = 7;
  config.pin_pclk = 13;
  config.xclk_freq_hz = 16000000;  // of Espressif's own support package for this board
  config.ledc_timer = LEDC_TIMER_0;
  config.ledc_channel = LEDC_CHANNEL_0;
  config.pixel_format = format;
  config.frame_size = kSize;
  config.fb_count = kBuffers;
  // Without PSRAM small pictures still fit internal memory.
  config.fb_location = heap_caps_get_total_size(MALLOC_CAP_SPIRAM) ? CAMERA_FB_IN_PSRAM : CAMERA_FB_IN_DRAM;
  config.grab_mode = CAMERA_GRAB_LATEST;
  return config;
}

class Ov2640 final : public FrameSource {
 public:
  const char* name() const override { return format_ == PIXFORMAT_YUV422 ? "OV2640 YUYV" : "OV2640 RGB565"; }

  esp_err_t start() override {
    format_ = kFormat;
    esp_err_t status = start(kFormat);
    if (status == ESP_ERR_NOT_SUPPORTED && kFormat == PIXFORMAT_YUV422) {
      ESP_LOGW(kTag, "the sensor refuses YUV 4:2:2; using RGB565");
      status = start(PIXFORMAT_RGB565);
    }
    return status;
  }

  void stop() override {
    if (started_) esp_camera_deinit();
    started_ = false;
  }

  bool next(CameraFrame* frame, uint32_t milliseconds) override {
    const TickType_t begin = xTaskGetTickCount(), patience = pdMS_TO_TICKS(milliseconds);
    while (started_) {
      // esp_camera_fb_get() waits up to 4 s for a camera that has stopped, so it is asked only for what is there.
      while (!esp_camera_available_frames()) {
        if (xTaskGetTickCount() - begin >= patience) return false;
        vTaskDelay(1);
      }
      camera_fb_t* picture = esp_camera_fb_get();
      if (!picture) return false;
      if (fill(frame, picture)) return true;
      esp_camera_fb_return(picture);
    }
    return false;
  }

  void release(const CameraFrame& frame) override { esp_camera_fb_return(static_cast<camera_fb_t*>(frame.handle)); }

 private:
  esp_err_t start(pixformat_t format) {
    const camera_config_t config = configuration(format);
    const esp_err_t status = esp_camera_init(&config);
    if (status != ESP_OK) return status;
    sensor_t* sensor = esp_camera_sensor_get();
    // esp_camera_init() does not look at what the sensor says to the format. Asking again is harmless.
    if (!sensor || sensor->set_pixformat(sensor, format) != 0) {
      esp_camera_deinit();
      return ESP_ERR_NOT_SUPPORTED;
    }
#if CONFIG_UHD_CAMERA_VFLIP
    sensor->set_vflip(sensor, 1);
#endif
#if CONFIG_UHD_CAMERA_HMIRROR
    sensor->set_hmirror(sensor, 1);
#endif
    format_ = format;
    started_ = true;
    return ESP_OK;
  }

  bool fill(CameraFrame* frame, camera_fb_t* picture) const {
    frame->picture = {static_cast<uint32_t>(picture->width), static_cast<uint32_t>(picture->height),
                      static_cast<uint32_t>(2 * picture->width)};
    frame->format = format_ == PIXFORMAT_YUV422 ? PixelFormat::kYuyv : PixelFormat::kRgb565Be;
    frame->data = picture->buf;
    frame->size = static_cast<uint32_t>(picture->len);
    frame->captured_us = static_cast<uint64_t>(esp_timer_get_time());
    frame->handle = picture;
    if (check_camera(frame->picture, frame->size) != Status::Ok) return false;
#if CONFIG_UHD_CAMERA_SQUARE
    crop_square(frame);
#endif
    return true;
  }

  pixformat_t format_ = kFormat;
  bool started_ = false;
};

}  // namespace

FrameSource* frame_source() {
  static Ov2640 camera;
  return &camera;
}

}  // namespace uhd
