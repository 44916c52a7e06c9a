// A C interface to the camera that reads a file, and to the helpers of other drivers.
#include "uhd/button.hpp"
#include "uhd/camera_view.hpp"
#include "uhd/frame_source.hpp"

extern "C" {

struct PlainFrame {
  uint32_t width, height, stride, format, size;
  const uint8_t* data;
  void* handle;
};

static PlainFrame plain(const uhd::CameraFrame& f) {
  return {f.picture.width, f.picture.height, f.picture.stride, static_cast<uint32_t>(f.format), f.size, f.data, f.handle};
}
static uhd::CameraFrame frame_of(const PlainFrame& p) {
  uhd::CameraFrame f = {};
  f.picture = {p.width, p.height, p.stride};
  f.format = static_cast<uhd::PixelFormat>(p.format);
  f.size = p.size;
  f.data = p.data;
  f.handle = p.handle;
  return f;
}

int camera_exists(void) { return uhd::frame_source() != nullptr; }
int camera_start(void) { return uhd::frame_source()->start(); }
void camera_stop(void) { uhd::frame_source()->stop(); }
int camera_next(PlainFrame* out, uint32_t milliseconds) {
  uhd::CameraFrame frame;
  if (!uhd::frame_source()->next(&frame, milliseconds)) return 0;
  *out = plain(frame);
  return check_camera(frame.picture, frame.size) == uhd::Status::Ok ? 1 : -1;
}
void camera_release(const PlainFrame* frame) { uhd::frame_source()->release(frame_of(*frame)); }

void view_square(PlainFrame* frame) {
  uhd::CameraFrame f = frame_of(*frame);
  crop_square(&f);
  *frame = plain(f);
}
int view_uyvy(PlainFrame* frame) {
  uhd::CameraFrame f = frame_of(*frame);
  const bool done = uyvy_to_yuyv(&f);
  *frame = plain(f);
  return done;
}
int view_ok(const PlainFrame* frame) {
  return uhd::check_camera({frame->width, frame->height, frame->stride}, frame->size) == uhd::Status::Ok;
}

// Presses among `count` samples of a contact.
int button_presses(const uint8_t* is_closed, const uint32_t* milliseconds, int count, uint8_t* pressed) {
  uhd::Debouncer debouncer;
  int presses = 0;
  for (int i = 0; i < count; i++) {
    pressed[i] = debouncer.update(is_closed[i] != 0, milliseconds[i]);
    presses += pressed[i];
  }
  return presses;
}
uint32_t button_threshold(uint32_t current, uint32_t model) {
  return uhd::next_threshold(static_cast<uint16_t>(current), static_cast<uint16_t>(model));
}

}  // extern "C"
