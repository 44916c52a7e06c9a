// The C interface of the host twin: the device's own code as a shared library, for uhd.device.twin and the tests.
// Functions that can fail return a negative uhd::Status. Buffers are the caller's. Host only: uses the C library.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "uhd/boxes.hpp"
#include "uhd/decode.hpp"
#include "uhd/device.hpp"
#include "uhd/link.hpp"
#include "uhd/model.hpp"
#include "uhd/preprocess.hpp"
#include "uhd/sha256.hpp"

namespace {

using uhd::Status;

int32_t code(Status status) { return -static_cast<int32_t>(status); }

// Text with a bound: `length` counts what would have been written.
struct Text {
  char* out;
  size_t capacity;
  size_t length = 0;

  template <typename... Values>
  void add(const char* format, Values... values) {
    const size_t room = length < capacity ? capacity - length : 0;
    const int count = snprintf(room ? out + length : nullptr, room, format, values...);
    if (count > 0) length += static_cast<size_t>(count);
  }
  void add_string(const char* value) {
    add("\"");
    for (; *value; value++) {
      const unsigned char c = static_cast<unsigned char>(*value);
      if (c == '"' || c == '\\' || c < 0x20) {
        add("\\u%04x", c);
      } else {
        add("%c", c);
      }
    }
    add("\"");
  }
};

void add_tensor(Text* text, const uhd::TensorInfo& tensor) {
  text->add("{\"name\": ");
  text->add_string(tensor.name);
  text->add(", \"shape\": [1, %d, %d, %d], \"bytes\": %d, \"exponent\": %d, \"arena_offset\": %lu}", tensor.height,
            tensor.width, tensor.channels, tensor.bytes, tensor.exponent,
            static_cast<unsigned long>(tensor.arena_offset));
}

struct MemorySink : uhd::link::Sink {
  uint8_t* data = nullptr;
  size_t size = 0, capacity = 0;
  bool growing = false;

  void write(const uint8_t* bytes, size_t count) override {
    if (growing && size + count > capacity) {
      capacity = 2 * (size + count);
      data = static_cast<uint8_t*>(realloc(data, capacity));
      if (!data) abort();
    }
    if (size + count <= capacity) memcpy(data + size, bytes, count);
    size += count;
  }
};

uint64_t nanoseconds() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1000000000u + static_cast<uint64_t>(now.tv_nsec);
}

// A port between two buffers.
struct MemoryPort : uhd::Port {
  const uint8_t* input = nullptr;
  size_t input_left = 0;
  MemorySink output;
  bool shut_down = false;

  size_t read(uint8_t* buffer, size_t capacity) override {
    const size_t count = input_left < capacity ? input_left : capacity;
    if (count) memcpy(buffer, input, count);
    input += count;
    input_left -= count;
    return count;
  }
  void write(const uint8_t* data, size_t size) override { output.write(data, size); }
  uint64_t micros() override { return nanoseconds() / 1000; }
  uint64_t ticks() override { return nanoseconds(); }
  void shutdown() override { shut_down = true; }
};

struct TwinDevice {
  MemoryPort port;
  uint8_t* memory;
  uhd::Device device;

  explicit TwinDevice(const uhd::DeviceOptions& options)
      : memory(nullptr), device(uhd::model_info(), uhd::model_run, port, options) {
    port.output.growing = true;
  }
};

// `on_link`: in the units of the link, otherwise in those of uhd::Detection.
int32_t detect(const void* const* outputs, const uhd::DecodeSettings& settings, bool on_link, int32_t* rows,
               uint32_t* candidates) {
  const uhd::ModelInfo& model = uhd::model_info();
  const Status status = uhd::check_decode(model);
  if (status != Status::Ok) return code(status);
  // Exactly the size that decode() may use, so that a sanitizer sees one row too many.
  auto* found = static_cast<uhd::Detection*>(malloc(settings.top_k ? settings.top_k * sizeof(uhd::Detection) : 1));
  if (!found) abort();
  size_t count = uhd::decode(model, outputs, settings, found, candidates);
  count = uhd::suppress(found, count, settings.nms_iou_q16);
  for (size_t i = 0; i < count; i++) {
    const uhd::Detection& d = found[i];
    const uhd::link::Box box = uhd::to_box(d);
    const int32_t row[6] = {box.score,
                            d.cls,
                            box.cx,
                            box.cy,
                            on_link ? box.width : static_cast<int32_t>(d.w),
                            on_link ? box.height : static_cast<int32_t>(d.h)};
    memcpy(rows + 6 * i, row, sizeof(row));
  }
  free(found);
  return static_cast<int32_t>(count);
}

}  // namespace

extern "C" {

// ---- model ----

// Describes the model as JSON. Returns the length without the final zero; the text is complete if that is < capacity.
int32_t uhd_twin_info(char* out, size_t capacity) {
  const uhd::ModelInfo& model = uhd::model_info();
  Text text{out, capacity};
  text.add("{\"name\": ");
  text.add_string(model.name);
  text.add(", \"variant\": ");
  text.add_string(model.variant);
  text.add(", \"target\": ");
  text.add_string(model.target);
  text.add(", \"hash\": \"");
  for (int i = 0; i < 32; i++) text.add("%02x", model.hash[i]);
  text.add("\", \"espdl_size\": %lu, \"arena_size\": %lu, \"input\": ", static_cast<unsigned long>(model.espdl_size),
           static_cast<unsigned long>(model.arena_size));
  add_tensor(&text, model.input);
  text.add(", \"outputs\": [");
  for (int i = 0; i < model.output_count; i++) {
    if (i) text.add(", ");
    add_tensor(&text, model.outputs[i]);
  }
  text.add("], \"decode\": ");
  if (const uhd::DecodeSpec* spec = model.decode) {
    text.add("{\"anchor_count\": %d, \"class_count\": %d, \"grid_h\": %d, \"grid_w\": %d, ", spec->anchor_count,
             spec->class_count, spec->grid_h, spec->grid_w);
    text.add("\"score_threshold_q16\": %d, \"nms_iou_q16\": %d, \"top_k\": %d}}", spec->score_threshold_q16,
             spec->nms_iou_q16, spec->top_k);
  } else {
    text.add("null}");
  }
  return static_cast<int32_t>(text.length);
}

// Pointer to the embedded .espdl (info's espdl_size bytes), or null.
const uint8_t* uhd_twin_espdl(void) { return uhd::model_info().espdl; }

// See uhd::model_run. Returns 0 or a negative status.
int32_t uhd_twin_model_run(const void* input, void* const* outputs, uint8_t* arena) {
  return code(uhd::model_run(input, outputs, arena));
}

// ---- picture to model input ----

// YUYV picture of `total` bytes to uint8 [out_height, out_width, 2]. Returns 0 or a negative status.
int32_t uhd_twin_camera_to_network(const uint8_t* frame, uint32_t total, uint32_t width, uint32_t height,
                                   uint32_t stride, uint16_t out_width, uint16_t out_height, uint8_t* out) {
  const uhd::CameraPicture picture = {width, height, stride};
  const Status status = uhd::check_camera(picture, total);
  if (status != Status::Ok || out_width == 0 || out_height == 0) return code(Status::InvalidArgument);
  uhd::camera_piece(picture, out_width, out_height, frame, 0, total, {nullptr, 0, nullptr, out});
  return 0;
}

// One piece of it: bytes [offset, offset + size). Other elements of `out` are left alone.
int32_t uhd_twin_camera_piece(const uint8_t* piece, uint32_t offset, uint32_t size, uint32_t width, uint32_t height,
                              uint32_t stride, uint16_t out_width, uint16_t out_height, uint8_t* out) {
  if (out_width == 0 || out_height == 0) return code(Status::InvalidArgument);
  uhd::camera_piece({width, height, stride}, out_width, out_height, piece, offset, size, {nullptr, 0, nullptr, out});
  return 0;
}

// A whole picture of a uhd::PixelFormat: to uint8 `copy` and, by the model's table, to `integers` of 1 or 2 bytes;
// either may be null. Returns 0 or a negative status.
int32_t uhd_twin_camera_picture(const uint8_t* frame, uint32_t total, uint32_t width, uint32_t height, uint32_t stride,
                                uint8_t format, uint16_t out_width, uint16_t out_height, void* integers,
                                uint8_t* copy) {
  const uhd::CameraPicture picture = {width, height, stride};
  if (uhd::check_camera(picture, total) != Status::Ok || out_width == 0 || out_height == 0 || format > 2) {
    return code(Status::InvalidArgument);
  }
  const uhd::ModelInfo& model = uhd::model_info();
  uhd::camera_picture(picture, static_cast<uhd::PixelFormat>(format), out_width, out_height, frame,
                      {model.input_table, model.input.bytes, integers, copy});
  return 0;
}

// Network input uint8 [height, width, channels] to the integers of the model's input tensor.
void uhd_twin_network_to_input(const uint8_t* network, void* input) {
  const uhd::ModelInfo& model = uhd::model_info();
  const uhd::NetworkSink sink = {model.input_table, model.input.bytes, input, nullptr};
  for (uint32_t i = 0; i < model.input.elements(); i++) sink.put(i, network[i]);
}

// ---- outputs to boxes ----

// Rows of int32 score, class, cx, cy, w, h, all but the class in 1/65535; room for top_k of them. Returns how many, or
// a negative status.
int32_t uhd_twin_decode(const void* const* outputs, uint16_t score_threshold_q16, uint16_t nms_iou_q16, uint16_t top_k,
                        int32_t* rows, uint32_t* candidates) {
  return detect(outputs, {score_threshold_q16, nms_iou_q16, top_k}, false, rows, candidates);
}

// Network input to rows as the link carries them, inside the arena as on the device: int32 score, class, cx, cy, w, h,
// the sides in 1/16384, all else but the class in 1/65535. `arena`: info's arena_size bytes, 16-byte aligned.
int32_t uhd_twin_detect_network(const uint8_t* network, uint8_t* arena, uint16_t score_threshold_q16,
                                uint16_t nms_iou_q16, uint16_t top_k, int32_t* rows, uint32_t* candidates) {
  const uhd::ModelInfo& model = uhd::model_info();
  void* outputs[256];
  for (int i = 0; i < model.output_count; i++) outputs[i] = arena + model.outputs[i].arena_offset;
  void* input = arena + model.input.arena_offset;
  uhd_twin_network_to_input(network, input);
  const Status status = uhd::model_run(input, outputs, arena);
  if (status != Status::Ok) return code(status);
  return detect(outputs, {score_threshold_q16, nms_iou_q16, top_k}, true, rows, candidates);
}

// ---- link codec, for tests ----

uint32_t uhd_twin_crc32(uint32_t crc, const uint8_t* data, size_t size) { return uhd::link::crc32(crc, data, size); }

void uhd_twin_sha256(const uint8_t* data, size_t size, uint8_t* digest) { uhd::sha256(data, size, digest); }

// Writes one frame with its zeros. Returns its size; nothing beyond `capacity` is written.
size_t uhd_twin_encode(uint8_t type, uint16_t seq, const uint8_t* payload, size_t size, uint8_t* out, size_t capacity) {
  MemorySink sink;
  sink.data = out;
  sink.capacity = capacity;
  uhd::link::FrameWriter writer(sink, seq);
  writer.begin(type);
  writer.put(payload, size);
  writer.end();
  return sink.size;
}

void* uhd_twin_decoder_new(void) { return new uhd::link::Decoder(); }
void uhd_twin_decoder_free(void* decoder) { delete static_cast<uhd::link::Decoder*>(decoder); }

// Feeds bytes up to the end of the next good frame. Returns how many were taken; *payload_size is -1 if no frame ended,
// else the frame is in *type, *seq and payload (room for MAX_PAYLOAD bytes).
size_t uhd_twin_decoder_feed(void* decoder, const uint8_t* data, size_t size, uint8_t* type, uint16_t* seq,
                             uint8_t* payload, int32_t* payload_size) {
  *payload_size = -1;
  for (size_t i = 0; i < size; i++) {
    uhd::link::Packet packet;
    if (!static_cast<uhd::link::Decoder*>(decoder)->push(data[i], &packet)) continue;
    *type = packet.type;
    *seq = packet.seq;
    memcpy(payload, packet.payload, packet.size);
    *payload_size = static_cast<int32_t>(packet.size);
    return i + 1;
  }
  return size;
}

// counters: frames, crc_errors, malformed, overlong.
void uhd_twin_decoder_counters(void* decoder, uint32_t* counters) {
  const uhd::link::DecoderCounters& c = static_cast<uhd::link::Decoder*>(decoder)->counters();
  const uint32_t values[4] = {c.frames, c.crc_errors, c.malformed, c.overlong};
  memcpy(counters, values, sizeof(values));
}

// ---- the whole device in memory ----

// `memory`: bytes given to the device; 0 for what it needs.
void* uhd_twin_device_new(uint32_t credit, size_t memory) {
  auto* twin = new TwinDevice({"host twin", credit});
  const size_t size = memory ? memory : uhd::Device::memory_needed(uhd::model_info());
  if (posix_memalign(reinterpret_cast<void**>(&twin->memory), uhd::kArenaAlignment, size) != 0) abort();
  twin->device.start(twin->memory, size);
  return twin;
}

void uhd_twin_device_free(void* device) {
  auto* twin = static_cast<TwinDevice*>(device);
  free(twin->memory);
  free(twin->port.output.data);
  delete twin;
}

// Gives the device bytes and lets it run until it has taken them all. Returns how many bytes it has to say.
size_t uhd_twin_device_receive(void* device, const uint8_t* data, size_t size) {
  auto* twin = static_cast<TwinDevice*>(device);
  twin->port.input = data;
  twin->port.input_left = size;
  while (twin->device.poll()) {
  }
  return twin->port.output.size;
}

// Takes what the device has said; `out` has the room that the last receive() named.
size_t uhd_twin_device_send(void* device, uint8_t* out) {
  MemorySink& output = static_cast<TwinDevice*>(device)->port.output;
  const size_t size = output.size;
  if (size) memcpy(out, output.data, size);
  output.size = 0;
  return size;
}

// 1 once SHUTDOWN was received.
int32_t uhd_twin_device_is_shut_down(void* device) { return static_cast<TwinDevice*>(device)->port.shut_down ? 1 : 0; }

}  // extern "C"
