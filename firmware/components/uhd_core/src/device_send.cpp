#include <string.h>

#include "uhd/boxes.hpp"
#include "uhd/device.hpp"

// What the device says.

namespace uhd {
namespace {

using link::ErrorCode;

constexpr uint32_t kPiece = 1024;  // bytes of a tensor in one frame: one lost frame costs little

void copy_text(char* out, size_t capacity, const char* text) {
  const size_t size = strlen(text);
  memcpy(out, text, size < capacity ? size : capacity);
}

void put_tensor(link::FrameWriter* writer, const TensorInfo& tensor) {
  link::TensorRow row;
  copy_text(row.name, sizeof(row.name), tensor.name);
  row.height = tensor.height;
  row.width = tensor.width;
  row.channels = tensor.channels;
  row.bytes = tensor.bytes;
  row.exponent = tensor.exponent;
  writer->put(&row, link::TensorRow::kSize);
}

}  // namespace

link::Config Device::default_config() const {
  link::Config config;
  if (model_.decode) {
    config.score_threshold = model_.decode->score_threshold_q16;
    config.nms_iou = model_.decode->nms_iou_q16;
    config.top_k = model_.decode->top_k;
  }
  if (options_.score_threshold) config.score_threshold = options_.score_threshold;
  if (options_.nms_iou) config.nms_iou = options_.nms_iou;
  config.limit = link::kDefaultLimit;
  config.results_every = 1;
  if (config.top_k == 0) config.top_k = config.limit;  // nothing to decode, but CONFIG wants a valid value
  return config;
}

template <typename Message>
void Device::fill_counters(Message* message) const {
  const link::DecoderCounters& link = decoder_.counters();
  message->frames_received = link.frames;
  message->crc_errors = link.crc_errors;
  message->malformed = link.malformed;
  message->overlong = link.overlong;
  message->unknown = unknown_;
  message->inferences = inferences_;
}

void Device::send_info() {
  const link::Config config = default_config();
  link::Info info;
  info.protocol_version = link::kProtocolVersion;
  info.health = static_cast<uint8_t>(health_);
  info.class_count = model_.decode ? model_.decode->class_count : 0;
  info.score_threshold = config.score_threshold;
  info.nms_iou = config.nms_iou;
  info.top_k = config.top_k;
  info.arena_size = model_.arena_size;
  info.espdl_size = model_.espdl_size;
  info.max_frame_bytes = link::kMaxFrameBytes;
  info.credit = options_.credit;
  memcpy(info.model_hash, model_.hash, sizeof(info.model_hash));
  copy_text(info.name, sizeof(info.name), model_.name);
  copy_text(info.variant, sizeof(info.variant), model_.variant);
  copy_text(info.target, sizeof(info.target), model_.target);
  copy_text(info.backend, sizeof(info.backend), options_.backend);
  info.faults = faults_;
  info.reset_reason = static_cast<uint8_t>(options_.reset_reason);
  if (seen_.data) {
    info.camera_format = static_cast<uint8_t>(static_cast<uint8_t>(seen_.format) + 1);
    info.camera_width = static_cast<uint16_t>(seen_.picture.width);
    info.camera_height = static_cast<uint16_t>(seen_.picture.height);
  }
  fill_counters(&info);
  writer_.begin(info);
  put_tensor(&writer_, model_.input);
  for (uint8_t i = 0; i < model_.output_count && i < kMaxOutputs; i++) put_tensor(&writer_, model_.outputs[i]);
  writer_.end();
}

void Device::send_stats() {
  link::Stats stats;
  stats.uptime_us = port_.micros();
  stats.memory_used = arena_ ? static_cast<uint32_t>(memory_needed(model_)) : 0;
  stats.memory_size = static_cast<uint32_t>(memory_size_);
  uint32_t heap_free, heap_low_water;
  port_.heap(&heap_free, &heap_low_water);
  stats.heap_free = heap_free;
  stats.heap_low_water = heap_low_water;
  stats.faults = faults_;
  stats.dropped_bytes = port_.dropped_bytes();
  if (camera_) {
    const CameraCounters camera = camera_->counters();
    stats.camera_captured = camera.captured;
    stats.camera_dropped = camera.dropped;
    stats.camera_restarts = camera.restarts;
    stats.camera_inferences = camera_inferences_;
    stats.camera_fps_x10 = rate_.x10(port_.micros());
  }
  stats.temperature_x10 = port_.temperature();
  times_.report(&stats);
  fill_counters(&stats);
  writer_.send(stats);
}

void Device::send_ack(const link::Packet& packet, uint32_t frame_id, uint32_t next) {
  link::Ack ack;
  ack.reply_to = packet.seq;
  ack.reply_type = packet.type;
  ack.frame_id = frame_id;
  ack.next_offset = next;
  ack.credit = options_.credit;
  writer_.send(ack);
}

void Device::fault(ErrorCode code, const char* text) {
  if (faults_ & fault_bit(code)) return;
  faults_ |= fault_bit(code);
  send_error(nullptr, code, 0, text ? text : link::error_text(code));
}

void Device::send_error(const link::Packet* packet, ErrorCode code, uint32_t frame_id, const char* text) {
  link::Error error;
  error.protocol_version = link::kProtocolVersion;
  error.code = static_cast<uint16_t>(code);
  if (packet) {
    error.reply_to = packet->seq;
    error.reply_type = packet->type;
  }
  error.frame_id = frame_id;
  writer_.begin(error);
  writer_.put(text, strlen(text));
  writer_.end();
}

template <typename Message>
void Device::send_pieces(Message message, uint32_t frame_id, const void* data, uint32_t total) {
  static_assert(offsetof(Message, offset) == Message::kSize - sizeof(message.offset), "the offset comes last");
  message.frame_id = frame_id;
  message.total = total;
  send_pieces(Message::kType, &message, Message::kSize, static_cast<const uint8_t*>(data), total);
}

void Device::send_pieces(uint8_t type, void* message, size_t size, const uint8_t* data, uint32_t total) {
  for (uint32_t offset = 0; offset < total; offset += kPiece) {
    memcpy(static_cast<uint8_t*>(message) + size - sizeof(offset), &offset, sizeof(offset));
    writer_.begin(type, message, size);
    writer_.put(data + offset, total - offset < kPiece ? total - offset : kPiece);
    writer_.end();
  }
}

void Device::send_results(const Picture& picture) {
  const uint32_t frame_id = picture.result.frame_id;
  if (picture.flags & static_cast<uint16_t>(link::ConfigFlags::kSendOutputs)) {
    for (uint8_t i = 0; i < model_.output_count; i++) {
      link::Output output;
      output.index = i;
      send_pieces(output, frame_id, outputs_[i], model_.outputs[i].size());
    }
  }
  if (picture.thumbnail) {
    link::Thumbnail thumbnail;
    thumbnail.width = model_.input.width;
    thumbnail.height = model_.input.height;
    thumbnail.channels = static_cast<uint8_t>(model_.input.channels);
    send_pieces(thumbnail, frame_id, thumbnail_, model_.input.elements());
  }
  if (picture.flags & static_cast<uint16_t>(link::ConfigFlags::kSendTiming)) {
    link::Timing timing = picture.timing;
    timing.frame_id = frame_id;
    writer_.send(timing);
  }
  link::Detections result = picture.result;
  const bool classes = model_.decode && model_.decode->class_count > 1;
  if (classes) result.flags |= static_cast<uint8_t>(link::DetectionFlags::kClasses);
  writer_.begin(result);
  for (uint8_t i = 0; i < result.count; i++) {
    const link::Box box = to_box(rows_[i]);
    writer_.put(&box, link::Box::kSize);
  }
  for (uint8_t i = 0; classes && i < result.count; i++) writer_.put(&rows_[i].cls, 1);
  writer_.end();
}

}  // namespace uhd
