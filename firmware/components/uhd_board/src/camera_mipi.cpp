// The MIPI camera (SC2336) of the ESP32-P4-Function-EV-Board, on ESP-IDF's esp_video: V4L2 with a device of its own.
//
// The sensor sends raw pixels, the chip's ISP makes colours. Its YUV 4:2:2 has bytes U Y0 V Y1 on every revision of the
// chip, its RGB565 the low byte first.
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

#include "esp_log.h"
#include "esp_timer.h"
#include "esp_video_device.h"
#include "esp_video_init.h"
#include "esp_video_ioctl.h"
#include "sdkconfig.h"
#include "uhd/camera_view.hpp"
#include "uhd/frame_source.hpp"

namespace uhd {
namespace {

constexpr char kTag[] = "camera";
constexpr int kCapture = V4L2_BUF_TYPE_VIDEO_CAPTURE;

// One that is being filled, one that waits, one in the detector's hands, and one to spare.
constexpr uint32_t kBuffers = 4;

class MipiCamera final : public FrameSource {
 public:
  const char* name() const override { return is_yuv_ ? "SC2336 YUV 4:2:2" : "SC2336 RGB565"; }

  esp_err_t start() override {
    if (fd_ >= 0) return ESP_ERR_INVALID_STATE;
    const esp_err_t status = open_stream();
    if (status != ESP_OK) close_stream();
    return status;
  }

  void stop() override {
    if (fd_ < 0) return;
    int type = kCapture;
    ioctl(fd_, VIDIOC_STREAMOFF, &type);
    close_stream();
  }

  bool next(CameraFrame* frame, uint32_t milliseconds) override {
    if (fd_ < 0) return false;
    const int64_t end = esp_timer_get_time() + 1000ll * milliseconds;
    for (;;) {
      const int64_t left = end - esp_timer_get_time();
      timeval patience = {};
      if (left > 0) {
        patience.tv_sec = static_cast<time_t>(left / 1000000);
        patience.tv_usec = static_cast<suseconds_t>(left % 1000000);
      }
      v4l2_buffer buffer = {};
      buffer.type = kCapture;
      buffer.memory = V4L2_MEMORY_MMAP;
      if (ioctl(fd_, VIDIOC_S_DQBUF_TIMEOUT, &patience) != 0 || ioctl(fd_, VIDIOC_DQBUF, &buffer) != 0) return false;
      const bool complete = buffer.flags & V4L2_BUF_FLAG_DONE;
      if (complete && buffer.index < kBuffers && fill(frame, buffer.index, buffer.bytesused)) return true;
      give_back(buffer.index);
      if (left <= 0) return false;
    }
  }

  void release(const CameraFrame& frame) override {
    give_back(static_cast<uint32_t>(reinterpret_cast<uintptr_t>(frame.handle)));
  }

 private:
  esp_err_t open_stream() {
    esp_video_init_csi_config_t csi = {};
    csi.sccb_config.init_sccb = true;
    csi.sccb_config.i2c_config.port = 0;
    csi.sccb_config.i2c_config.scl_pin = GPIO_NUM_8;
    csi.sccb_config.i2c_config.sda_pin = GPIO_NUM_7;
    csi.sccb_config.freq = 400000;
    csi.reset_pin = GPIO_NUM_NC;
    csi.pwdn_pin = GPIO_NUM_NC;
    esp_video_init_config_t config = {};
    config.csi = &csi;
    const esp_err_t status = esp_video_init(&config);
    if (status != ESP_OK) return status;
    is_initialised_ = true;
    // esp_video_init() is content without a sensor; there is no device then.
    fd_ = open(ESP_VIDEO_MIPI_CSI_DEVICE_NAME, O_RDONLY);
    if (fd_ < 0) return ESP_ERR_NOT_FOUND;
    flip();
    const esp_err_t chosen = choose_format();
    return chosen == ESP_OK ? map_buffers() : chosen;
  }

  void close_stream() {
    if (fd_ >= 0) close(fd_);
    fd_ = -1;
    if (is_initialised_) esp_video_deinit();
    is_initialised_ = false;
  }

  void flip() {
#if CONFIG_UHD_CAMERA_VFLIP
    set(V4L2_CID_VFLIP);
#endif
#if CONFIG_UHD_CAMERA_HMIRROR
    set(V4L2_CID_HFLIP);
#endif
  }

  [[maybe_unused]] void set(uint32_t control) {
    v4l2_ext_control value = {};
    value.id = control;
    value.value = 1;
    v4l2_ext_controls values = {};
    values.ctrl_class = V4L2_CTRL_CLASS_USER;
    values.count = 1;
    values.controls = &value;
    if (ioctl(fd_, VIDIOC_S_EXT_CTRLS, &values) != 0) ESP_LOGW(kTag, "the sensor does not flip its picture");
  }

  esp_err_t choose_format() {
    v4l2_format format = {};
    format.type = kCapture;
    if (ioctl(fd_, VIDIOC_G_FMT, &format) != 0) return ESP_FAIL;
    size_ = {format.fmt.pix.width, format.fmt.pix.height, 2 * format.fmt.pix.width};
#if CONFIG_UHD_CAMERA_YUV422
    // The network is trained on the range of television, Y 16..235.
    format.fmt.pix.quantization = V4L2_QUANTIZATION_LIM_RANGE;
    format.fmt.pix.ycbcr_enc = V4L2_YCBCR_ENC_601;
    format.fmt.pix.pixelformat = V4L2_PIX_FMT_UYVY;
    is_yuv_ = true;
    if (ioctl(fd_, VIDIOC_S_FMT, &format) == 0) return ESP_OK;
    ESP_LOGW(kTag, "the camera refuses YUV 4:2:2; using RGB565");
#endif
    is_yuv_ = false;
    format.fmt.pix.quantization = V4L2_QUANTIZATION_DEFAULT;
    format.fmt.pix.ycbcr_enc = V4L2_YCBCR_ENC_DEFAULT;
    format.fmt.pix.pixelformat = V4L2_PIX_FMT_RGB565;
    return ioctl(fd_, VIDIOC_S_FMT, &format) == 0 ? ESP_OK : ESP_ERR_NOT_SUPPORTED;
  }

  esp_err_t map_buffers() {
    v4l2_requestbuffers request = {};
    request.count = kBuffers;
    request.type = kCapture;
    request.memory = V4L2_MEMORY_MMAP;
    if (ioctl(fd_, VIDIOC_REQBUFS, &request) != 0) return ESP_ERR_NO_MEM;
    for (uint32_t i = 0; i < kBuffers; i++) {
      v4l2_buffer buffer = {};
      buffer.type = kCapture;
      buffer.memory = V4L2_MEMORY_MMAP;
      buffer.index = i;
      if (ioctl(fd_, VIDIOC_QUERYBUF, &buffer) != 0) return ESP_FAIL;
      const int access = PROT_READ | PROT_WRITE;
      // This mmap() returns null on failure.
      void* memory = mmap(nullptr, buffer.length, access, MAP_SHARED, fd_, static_cast<off_t>(buffer.m.offset));
      if (!memory) return ESP_ERR_NO_MEM;
      memory_[i] = static_cast<const uint8_t*>(memory);
      if (!give_back(i)) return ESP_FAIL;
    }
    int type = kCapture;
    return ioctl(fd_, VIDIOC_STREAMON, &type) == 0 ? ESP_OK : ESP_FAIL;
  }

  bool give_back(uint32_t index) {
    v4l2_buffer buffer = {};
    buffer.type = kCapture;
    buffer.memory = V4L2_MEMORY_MMAP;
    buffer.index = index;
    return ioctl(fd_, VIDIOC_QBUF, &buffer) == 0;
  }

  bool fill(CameraFrame* frame, uint32_t index, uint32_t size) const {
    frame->picture = size_;
    frame->format = PixelFormat::kRgb565Le;
    frame->data = memory_[index];
    frame->size = size;
    frame->captured_us = static_cast<uint64_t>(esp_timer_get_time());
    frame->handle = reinterpret_cast<void*>(static_cast<uintptr_t>(index));
    if (check_camera(frame->picture, frame->size) != Status::Ok) return false;
    if (is_yuv_ && !uyvy_to_yuyv(frame)) return false;
#if CONFIG_UHD_CAMERA_SQUARE
    crop_square(frame);
#endif
    return true;
  }

  int fd_ = -1;
  bool is_initialised_ = false;
  bool is_yuv_ = false;
  CameraPicture size_ = {};
  const uint8_t* memory_[kBuffers] = {};
};

}  // namespace

FrameSource* frame_source() {
  static MipiCamera camera;
  return &camera;
}

}  // namespace uhd
