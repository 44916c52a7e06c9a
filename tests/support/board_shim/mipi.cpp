// A camera behind esp_video: its calls come here (the driver is compiled with -Dioctl=shim_ioctl and the like).
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/types.h>

#include "clock.hpp"
#include "esp_video_init.h"
#include "esp_video_ioctl.h"

int64_t shim_now_us = 1000000;
void shim_wait(uint32_t milliseconds) { shim_now_us += 1000ll * milliseconds; }

namespace {

enum { kInitError, kNoSensor, kRefusedFormat, kPeriodMs, kBroken, kInitialised, kOpen, kStreaming, kFormat, kRange, kFlips,
       kTooLittleMemory, kSettings };
int setting[kSettings] = {0, 0, 0, 33, 0, 0, 0, 0, 0, 0, 0, 0};
constexpr uint32_t kWidth = 128, kHeight = 72, kMost = 8;
uint8_t memory[kMost][kWidth * kHeight * 2];
enum State { kMine, kQueued } state[kMost];
uint32_t buffers = 0;
int number = 0;
int64_t due_us = 0, patience_us = -1;

int refuse(int error) {
  errno = error;
  return -1;
}

int dequeue(v4l2_buffer* buffer) {
  if (!setting[kStreaming]) return refuse(EPERM);
  const int64_t end = shim_now_us + patience_us;
  if (setting[kPeriodMs] == 0 || (due_us > end && due_us > shim_now_us)) {
    shim_now_us = end;
    return refuse(ETIMEDOUT);
  }
  // The driver keeps one buffer back to write to.
  uint32_t free = kMost, queued = 0;
  for (uint32_t i = 0; i < buffers; i++) {
    queued += state[i] == kQueued;
    if (state[i] == kQueued && free == kMost) free = i;
  }
  if (queued < 2) {
    shim_now_us = end;
    return refuse(ETIMEDOUT);
  }
  if (due_us > shim_now_us) shim_now_us = due_us;
  due_us += 1000ll * setting[kPeriodMs];
  memset(memory[free], ++number, sizeof(memory[free]));
  state[free] = kMine;
  buffer->index = free;
  buffer->flags = setting[kBroken] > 0 ? V4L2_BUF_FLAG_ERROR : V4L2_BUF_FLAG_DONE;
  buffer->bytesused = setting[kBroken] > 0 ? 0 : sizeof(memory[free]);
  if (setting[kBroken] > 0) setting[kBroken]--;
  return 0;
}

int set_format(const v4l2_format* format) {
  const v4l2_pix_format& pix = format->fmt.pix;
  if (pix.width != kWidth || pix.height != kHeight) return refuse(EINVAL);
  if (setting[kRefusedFormat] == static_cast<int>(pix.pixelformat) || setting[kRefusedFormat] == 1) return refuse(ESRCH);
  setting[kFormat] = static_cast<int>(pix.pixelformat);
  setting[kRange] = static_cast<int>(pix.quantization);
  return 0;
}

}  // namespace

extern "C" {

esp_err_t esp_video_init(const esp_video_init_config_t* config) {
  if (setting[kInitialised] || !config->csi || !config->csi->sccb_config.init_sccb) return ESP_ERR_INVALID_STATE;
  if (setting[kInitError]) return setting[kInitError];
  setting[kInitialised] = 1;
  return ESP_OK;
}
esp_err_t esp_video_deinit(void) {
  if (setting[kOpen]) return ESP_ERR_INVALID_STATE;
  setting[kInitialised] = 0;
  return ESP_OK;
}
int shim_open(const char* path, int, ...) {
  if (!setting[kInitialised] || setting[kNoSensor] || strcmp(path, "/dev/video0") != 0) return refuse(ENOENT);
  setting[kOpen]++;
  return 0;
}
int shim_close(int) {
  setting[kOpen]--;
  setting[kStreaming] = 0;
  return 0;
}
void* shim_mmap(void*, size_t, int, int, int, off_t offset) { return setting[kTooLittleMemory] ? nullptr : memory[offset]; }

int shim_ioctl(int fd, unsigned long command, ...) {
  va_list list;
  va_start(list, command);
  void* argument = va_arg(list, void*);
  va_end(list);
  if (fd != 0 || !setting[kOpen]) return refuse(EBADF);
  v4l2_buffer* buffer = static_cast<v4l2_buffer*>(argument);
  switch (static_cast<uint32_t>(command)) {
    case VIDIOC_G_FMT:
      static_cast<v4l2_format*>(argument)->fmt.pix.width = kWidth;
      static_cast<v4l2_format*>(argument)->fmt.pix.height = kHeight;
      return 0;
    case VIDIOC_S_FMT:
      return set_format(static_cast<const v4l2_format*>(argument));
    case VIDIOC_S_EXT_CTRLS:
      setting[kFlips]++;
      return 0;
    case VIDIOC_REQBUFS:
      buffers = static_cast<v4l2_requestbuffers*>(argument)->count;
      for (State& s : state) s = kMine;
      return buffers <= kMost ? 0 : refuse(ENOMEM);
    case VIDIOC_QUERYBUF:
      buffer->length = sizeof(memory[0]);
      buffer->m.offset = buffer->index;
      return 0;
    case VIDIOC_QBUF:
      if (buffer->index >= buffers || state[buffer->index] != kMine) return refuse(EINVAL);
      state[buffer->index] = kQueued;
      return 0;
    case VIDIOC_STREAMON:
      setting[kStreaming] = 1;
      due_us = shim_now_us + 1000ll * setting[kPeriodMs];
      return 0;
    case VIDIOC_STREAMOFF:
      setting[kStreaming] = 0;
      return 0;
    case static_cast<uint32_t>(VIDIOC_S_DQBUF_TIMEOUT): {
      const timeval* time = static_cast<const timeval*>(argument);
      patience_us = time->tv_sec * 1000000ll + time->tv_usec;
      return 0;
    }
    case VIDIOC_DQBUF:
      return dequeue(buffer);
  }
  return refuse(EINVAL);
}

void shim_set(int which, int value) { setting[which] = value; }
int shim_get(int which) { return setting[which]; }
uint32_t shim_clock_ms(void) { return static_cast<uint32_t>(shim_now_us / 1000); }

}  // extern "C"
