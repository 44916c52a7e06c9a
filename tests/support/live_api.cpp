// The device with a camera, a display and a clock that a test drives, for ctypes (tests/support/live.py).
#include <stdlib.h>
#include <string.h>

#include <deque>
#include <string>
#include <vector>

#include "uhd/device.hpp"

namespace {

struct TestPort final : uhd::Port {
  std::string input, output;
  uint64_t now = 0;
  uint32_t dropped = 0;
  size_t read(uint8_t* buffer, size_t capacity) override {
    const size_t count = input.size() < capacity ? input.size() : capacity;
    memcpy(buffer, input.data(), count);
    input.erase(0, count);
    return count;
  }
  void write(const uint8_t* data, size_t size) override { output.append(reinterpret_cast<const char*>(data), size); }
  uint64_t micros() override { return now; }
  uint64_t ticks() override { return 7 * now; }
  int16_t celsius_x10 = uhd::kNoTemperature;
  uint32_t dropped_bytes() override { return dropped; }
  int16_t temperature() override { return celsius_x10; }
  void heap(uint32_t* free, uint32_t* low) override {
    *free = 1000;
    *low = 900;
  }
};

struct TestCamera final : uhd::Camera {
  std::deque<uhd::CameraFrame> waiting;
  uint32_t delivered = 0, given_back = 0;
  uhd::Status take(uhd::CameraFrame* frame) override {
    if (waiting.empty()) return uhd::Status::NotFound;
    *frame = waiting.front();
    waiting.pop_front();
    return uhd::Status::Ok;
  }
  void give_back(const uhd::CameraFrame& frame) override {
    free(const_cast<uint8_t*>(frame.data));
    given_back++;
  }
  uhd::CameraCounters counters() const override { return {delivered, 3, 2}; }
};

struct TestViewer final : uhd::Viewer {
  bool keeps = false;
  uint32_t shown = 0, boxes = 0, fps = 0, threshold = 0;
  std::vector<uhd::CameraFrame> kept;
  bool show(const uhd::CameraFrame& frame, const uhd::Detection*, size_t count, uint16_t fps_x10,
            uint16_t score_threshold) override {
    shown++;
    boxes = static_cast<uint32_t>(count);
    fps = fps_x10;
    threshold = score_threshold;
    if (keeps) kept.push_back(frame);
    return keeps;
  }
};

bool run_fails = false;
uhd::Status run(const void* input, void* const* outputs, uint8_t* arena) {
  return run_fails ? uhd::Status::Corrupt : uhd::model_run(input, outputs, arena);
}

struct Live {
  TestPort port;
  TestCamera camera;
  TestViewer viewer;
  uhd::Device device{uhd::model_info(), run, port, {"test", 4096, uhd::link::ResetReason::kBrownOut}};
  uint8_t* memory = nullptr;
};

Live* of(void* live) { return static_cast<Live*>(live); }

}  // namespace

extern "C" {

// `refuse` is a Health to refuse with instead of starting, or 0.
void* live_new(int with_viewer, int viewer_keeps, int refuse) {
  auto* live = new Live();
  live->viewer.keeps = viewer_keeps != 0;
  live->device.attach(&live->camera, with_viewer ? &live->viewer : nullptr);
  const size_t size = uhd::Device::memory_needed(uhd::model_info());
  if (posix_memalign(reinterpret_cast<void**>(&live->memory), uhd::kArenaAlignment, size) != 0) abort();
  if (refuse) {
    live->device.refuse(static_cast<uhd::link::Health>(refuse));
  } else {
    live->device.start(live->memory, size);
  }
  return live;
}

void live_free(void* handle) {
  for (const uhd::CameraFrame& frame : of(handle)->camera.waiting) free(const_cast<uint8_t*>(frame.data));
  for (const uhd::CameraFrame& frame : of(handle)->viewer.kept) free(const_cast<uint8_t*>(frame.data));
  free(of(handle)->memory);
  delete of(handle);
}

void live_clock(void* live, uint64_t micros) { of(live)->port.now = micros; }
void live_run_fails(int fails) { run_fails = fails != 0; }

// The camera delivers a picture; its memory is the exact size, so that a sanitizer sees a step beyond it.
void live_picture(void* live, const uint8_t* data, uint32_t size, uint32_t width, uint32_t height, uint32_t stride,
                  int format, uint64_t captured_us) {
  auto* copy = static_cast<uint8_t*>(malloc(size ? size : 1));
  memcpy(copy, data, size);
  const auto pixels = static_cast<uhd::PixelFormat>(format);
  of(live)->camera.waiting.push_back({{width, height, stride}, pixels, copy, size, captured_us, nullptr});
  of(live)->camera.delivered++;
}

int live_watch(void* live) { return of(live)->device.watch() ? 1 : 0; }

// The device takes `size` bytes; returns how many it has to say.
size_t live_receive(void* live, const uint8_t* data, size_t size) {
  of(live)->port.input.append(reinterpret_cast<const char*>(data), size);
  while (of(live)->device.poll()) {
  }
  return of(live)->port.output.size();
}

void live_send(void* live, uint8_t* out) {
  memcpy(out, of(live)->port.output.data(), of(live)->port.output.size());
  of(live)->port.output.clear();
}

void live_fault(void* live, int code, const char* text) {
  of(live)->device.fault(static_cast<uhd::link::ErrorCode>(code), text);
}
void live_mended(void* live, int code) { of(live)->device.mended(static_cast<uhd::link::ErrorCode>(code)); }
void live_threshold(void* live, int q16) { of(live)->device.set_score_threshold(static_cast<uint16_t>(q16)); }
void live_dropped(void* live, uint32_t bytes) { of(live)->port.dropped = bytes; }
void live_temperature(void* live, int tenths) { of(live)->port.celsius_x10 = static_cast<int16_t>(tenths); }

// given back, shown, boxes, fps x 10, threshold at the viewer, model's threshold
void live_counters(void* live, uint32_t* out) {
  const Live* made = of(live);
  const uint32_t values[6] = {made->camera.given_back, made->viewer.shown, made->viewer.boxes, made->viewer.fps,
                              made->viewer.threshold,  made->device.own_threshold()};
  memcpy(out, values, sizeof(values));
}

}  // extern "C"
