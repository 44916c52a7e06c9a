// Counts the instructions of picture preprocessing and of boxes on an emulated RISC-V machine (minstret under -icount
// shift=0). Prints "name value" lines: instructions, and checksums (FNV-1a) of what was computed.
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "uhd/decode.hpp"
#include "uhd/preprocess.hpp"

// Made by core_bench.py: head outputs of some scenes, one after the other, with their score thresholds.
extern const uint32_t kSceneCount;
extern const uint16_t kThresholds[];
extern const int8_t kHeads[];

namespace {

constexpr uint32_t kTopK = 100;

alignas(16) uint8_t frame[2 * 640 * 480];
alignas(16) uint8_t integers[2 * 64 * 64 * 2];
alignas(16) uint8_t copy[64 * 64 * 2];
uhd::Detection rows[kTopK];

uint32_t instructions() {
  uint32_t value;
  asm volatile("csrr %0, minstret" : "=r"(value)::"memory");
  return value;
}

uint32_t fnv(const void* data, size_t size) {
  uint32_t hash = 2166136261u;
  for (size_t i = 0; i < size; i++) hash = (hash ^ static_cast<const uint8_t*>(data)[i]) * 16777619u;
  return hash;
}

void print(const char* name, uint32_t value) { printf("%s %lu\n", name, static_cast<unsigned long>(value)); }

// The same bytes as uhd.device.runtime_bench.input_bytes.
void fill(uint8_t* to, uint32_t size) {
  uint32_t state = 1;
  for (uint32_t i = 0; i < size; i++) {
    state = state * 1664525u + 1013904223u;
    to[i] = static_cast<uint8_t>(state >> 24);
  }
}

void time_picture(const char* name, uint32_t width, uint32_t height, uhd::PixelFormat format, uint8_t bytes,
                  bool copied) {
  const uhd::NetworkSink sink = {uhd::model_info().input_table, bytes, integers, copied ? copy : nullptr};
  const uhd::CameraPicture picture = {width, height, 2 * width};
  const uint32_t start = instructions();
  uhd::camera_picture(picture, format, 64, 64, frame, sink);
  const uint32_t end = instructions();
  char text[80];
  snprintf(text, sizeof(text), "picture_%s_%lux%lu_int%d%s", name, static_cast<unsigned long>(width),
           static_cast<unsigned long>(height), 8 * bytes, copied ? "_copy" : "");
  print(text, end - start);
  strncat(text, "_sum", sizeof(text) - strlen(text) - 1);
  print(text, fnv(integers, sizeof(copy) * bytes));
  if (copied) {
    strncat(text, "_copied", sizeof(text) - strlen(text) - 1);
    print(text, fnv(copy, sizeof(copy)));
  }
}

}  // namespace

int main() {
  fill(frame, sizeof(frame));
  constexpr uint32_t kSizes[][2] = {{240, 240}, {320, 240}, {640, 480}, {160, 120}};
  for (const auto& size : kSizes) {
    time_picture("yuyv", size[0], size[1], uhd::PixelFormat::kYuyv, 1, false);
    time_picture("yuyv", size[0], size[1], uhd::PixelFormat::kYuyv, 1, true);
  }
  time_picture("yuyv", 240, 240, uhd::PixelFormat::kYuyv, 2, true);
  time_picture("rgb565le", 240, 240, uhd::PixelFormat::kRgb565Le, 1, true);
  time_picture("rgb565be", 240, 240, uhd::PixelFormat::kRgb565Be, 1, false);

  const uhd::ModelInfo& model = uhd::model_info();
  if (uhd::check_decode(model) != uhd::Status::Ok) return 1;
  const int8_t* head = kHeads;
  for (uint32_t scene = 0; scene < kSceneCount; scene++) {
    const void* outputs[16];
    for (uint32_t i = 0; i < model.output_count; i++) {
      outputs[i] = head;
      head += model.outputs[i].size();
    }
    const uhd::DecodeSettings settings = {kThresholds[scene], 32768, kTopK};
    uint32_t candidates = 0;
    const uint32_t start = instructions();
    size_t count = uhd::decode(model, outputs, settings, rows, &candidates);
    const uint32_t decoded = instructions();
    count = uhd::suppress(rows, count, settings.nms_iou_q16);
    const uint32_t end = instructions();
    print("decode", decoded - start);
    print("suppress", end - decoded);
    print("candidates", candidates);
    print("boxes", static_cast<uint32_t>(count));
    uint32_t sum = 0;
    for (size_t i = 0; i < count; i++) {
      const uhd::Detection& d = rows[i];
      const uint32_t row[6] = {d.score, d.cls, d.cx, d.cy, d.w, d.h};
      sum = sum * 31 + fnv(row, sizeof(row));
    }
    print("rows_sum", sum);
  }
  return 0;
}
