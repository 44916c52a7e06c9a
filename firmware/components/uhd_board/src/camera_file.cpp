// The camera of the program that runs on the host: pictures from a file.
//
//   UHD_CAMERA_FILE    raw pictures one after the other; starts again at its end. Not set: no camera
//   UHD_CAMERA_FORMAT  "yuyv:320x240@15": yuyv, rgb565le or rgb565be, the size, pictures a second
//   UHD_CAMERA_FAULT   "missing": start() fails. "stops:N": no picture after N of them, until it is started again
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <atomic>

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
constexpr int kBuffers = 4;
constexpr unsigned kMaxSide = 4096;

struct Format {
  PixelFormat pixels;
  unsigned width, height, rate;
};

bool parse(const char* text, Format* format) {
  char name[16] = "", rest = 0;
  if (sscanf(text, "%15[a-z0-9]:%ux%u@%u%c", name, &format->width, &format->height, &format->rate, &rest) != 4) {
    return false;
  }
  if (strcmp(name, "yuyv") == 0) {
    format->pixels = PixelFormat::kYuyv;
  } else if (strcmp(name, "rgb565le") == 0) {
    format->pixels = PixelFormat::kRgb565Le;
  } else if (strcmp(name, "rgb565be") == 0) {
    format->pixels = PixelFormat::kRgb565Be;
  } else {
    return false;
  }
  return format->width && format->width <= kMaxSide && format->width % 2 == 0 && format->height &&
         format->height <= kMaxSide && format->rate && format->rate <= 1000;
}

class FileCamera final : public FrameSource {
 public:
  const char* name() const override { return "file"; }

  esp_err_t start() override {
    if (file_) return ESP_ERR_INVALID_STATE;
    const esp_err_t status = open();
    if (status != ESP_OK) close();
    return status;
  }

  void stop() override { close(); }

  bool next(CameraFrame* frame, uint32_t milliseconds) override {
    const int64_t end = esp_timer_get_time() + 1000ll * milliseconds;
    for (;;) {
      const int64_t now = esp_timer_get_time();
      const int buffer = file_ && left_ != 0 && now >= due_ ? free_buffer() : -1;
      if (buffer >= 0 && read_picture(buffer)) {
        // Late by more than a picture: go on from here, without catching up.
        due_ = now - due_ > period_ ? now + period_ : due_ + period_;
        if (left_ > 0) left_--;
        fill(frame, buffer);
        return true;
      }
      if (now >= end) return false;
      vTaskDelay(1);  // not in the kernel: tasks change only inside FreeRTOS
    }
  }

  void release(const CameraFrame& frame) override { taken_[reinterpret_cast<intptr_t>(frame.handle)] = false; }

 private:
  esp_err_t open() {
    const char* path = getenv("UHD_CAMERA_FILE");
    const char* text = getenv("UHD_CAMERA_FORMAT");
    const char* fault = getenv("UHD_CAMERA_FAULT");
    if (fault && strcmp(fault, "missing") == 0) return ESP_ERR_NOT_FOUND;
    left_ = fault && strncmp(fault, "stops:", 6) == 0 ? atol(fault + 6) : -1;
    if (!text || !parse(text, &format_)) {
      ESP_LOGE(kTag, "UHD_CAMERA_FORMAT is \"%s\"; expected, for example, \"yuyv:320x240@15\"", text ? text : "");
      return ESP_ERR_INVALID_ARG;
    }
    size_ = size_t{2} * format_.width * format_.height;
    period_ = 1000000 / format_.rate;
    file_ = fopen(path ? path : "", "rb");
    if (!file_) {
      ESP_LOGE(kTag, "UHD_CAMERA_FILE %s: %s", path ? path : "is not set", strerror(errno));
      return ESP_ERR_NOT_FOUND;
    }
    memory_ = static_cast<uint8_t*>(malloc(kBuffers * size_));
    if (!memory_) return ESP_ERR_NO_MEM;
    if (!read_picture(0)) {
      ESP_LOGE(kTag, "UHD_CAMERA_FILE %s holds no picture of %u bytes", path, static_cast<unsigned>(size_));
      return ESP_ERR_INVALID_SIZE;
    }
    rewind(file_);
    for (auto& taken : taken_) taken = false;
    due_ = esp_timer_get_time() + period_;
    return ESP_OK;
  }

  void close() {
    if (file_) fclose(file_);
    free(memory_);
    file_ = nullptr;
    memory_ = nullptr;
  }

  int free_buffer() const {
    for (int i = 0; i < kBuffers; i++) {
      if (!taken_[i]) return i;
    }
    return -1;
  }

  bool read_picture(int buffer) {
    uint8_t* memory = memory_ + static_cast<size_t>(buffer) * size_;
    if (fread(memory, size_, 1, file_) == 1) return true;
    rewind(file_);
    return fread(memory, size_, 1, file_) == 1;
  }

  void fill(CameraFrame* frame, int buffer) {
    taken_[buffer] = true;
    frame->picture = {format_.width, format_.height, 2 * format_.width};
    frame->format = format_.pixels;
    frame->data = memory_ + static_cast<size_t>(buffer) * size_;
    frame->size = static_cast<uint32_t>(size_);
    frame->captured_us = static_cast<uint64_t>(esp_timer_get_time());
    frame->handle = reinterpret_cast<void*>(static_cast<intptr_t>(buffer));
#if CONFIG_UHD_CAMERA_SQUARE
    crop_square(frame);
#endif
  }

  Format format_ = {};
  FILE* file_ = nullptr;
  uint8_t* memory_ = nullptr;
  size_t size_ = 0;
  long left_ = -1;  // pictures until the camera stops; negative: it does not
  int64_t due_ = 0;
  int64_t period_ = 0;
  std::atomic<bool> taken_[kBuffers] = {};
};

}  // namespace

FrameSource* frame_source() {
  static FileCamera camera;
  return getenv("UHD_CAMERA_FILE") ? &camera : nullptr;
}

}  // namespace uhd
