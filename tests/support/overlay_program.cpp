// Renders what stdin asks for to stdout: built with sanitizers, every buffer exactly as large as it has to be.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "uhd/overlay.hpp"

namespace {

struct Request {
  uint32_t width, height, stride, format, size, count, fps_x10, threshold, out_w, out_h, strip;
};
struct Box {
  uint32_t w, h, cx, cy, score, cls;
};

void* exactly(size_t size) {
  void* memory = malloc(size);
  if (size) memset(memory, 0x5a, size);
  return memory;
}

bool read_exactly(void* memory, size_t size) { return size == 0 || fread(memory, size, 1, stdin) == 1; }

}  // namespace

int main() {
  Request r;
  while (read_exactly(&r, sizeof(r))) {
    uhd::CameraFrame frame = {};
    frame.picture = {r.width, r.height, r.stride};
    frame.format = static_cast<uhd::PixelFormat>(r.format);
    frame.size = r.size;
    void* data = exactly(r.size);
    uhd::Detection* boxes = static_cast<uhd::Detection*>(exactly(r.count * sizeof(uhd::Detection)));
    if (!read_exactly(data, r.size)) return 1;
    frame.data = static_cast<const uint8_t*>(data);
    for (uint32_t i = 0; i < r.count; i++) {
      Box b;
      if (!read_exactly(&b, sizeof(b))) return 1;
      uhd::Detection& box = boxes[i];
      box = {};
      box.w = b.w;
      box.h = b.h;
      box.cx = static_cast<uint16_t>(b.cx);
      box.cy = static_cast<uint16_t>(b.cy);
      box.score = static_cast<uint16_t>(b.score);
      box.cls = static_cast<uint8_t>(b.cls);
    }
    for (uint32_t row = 0; row < r.out_h; row += r.strip) {
      const uint32_t rows = r.out_h - row < r.strip ? r.out_h - row : r.strip;
      const size_t size = size_t{2} * r.out_w * rows;
      // The last strip is asked for whole: rows below the display must be left alone.
      uint16_t* out = static_cast<uint16_t*>(exactly(size));
      uhd::overlay_rows(frame, boxes, r.count, static_cast<uint16_t>(r.fps_x10), static_cast<uint16_t>(r.threshold),
                        static_cast<uint16_t>(r.out_w), static_cast<uint16_t>(r.out_h), static_cast<uint16_t>(row),
                        static_cast<uint16_t>(r.strip), out);
      fwrite(out, 1, size, stdout);
      free(out);
    }
    free(boxes);
    free(data);
  }
  return 0;
}
