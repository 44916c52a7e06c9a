#include "uhd/device.hpp"

#include <string.h>

#include "uhd/sha256.hpp"

namespace uhd {
namespace {

using link::ErrorCode;
using link::FrameFormat;
using link::Health;

size_t aligned(size_t size) { return (size + kArenaAlignment - 1) / kArenaAlignment * kArenaAlignment; }

// How many candidates can enter suppression: all there are, up to what the protocol allows.
uint32_t most_candidates(const ModelInfo& model) {
  if (!model.decode) return 0;
  const uint64_t all = static_cast<uint64_t>(model.decode->anchor_count) * model.decode->grid_h * model.decode->grid_w;
  return all < link::kMaxCandidates ? static_cast<uint32_t>(all) : link::kMaxCandidates;
}

bool lies_in_arena(const TensorInfo& tensor, uint32_t arena_size) {
  return (tensor.bytes == 1 || tensor.bytes == 2) && tensor.arena_offset % tensor.bytes == 0 &&
         static_cast<uint64_t>(tensor.arena_offset) + tensor.size() <= arena_size;
}

bool same_picture(const link::Frame& a, const link::Frame& b) {
  static_assert(offsetof(link::Frame, offset) == link::Frame::kSize - sizeof(a.offset), "all but the offset");
  return memcmp(&a, &b, offsetof(link::Frame, offset)) == 0;
}

}  // namespace

size_t Device::memory_needed(const ModelInfo& model) {
  return aligned(model.arena_size) + aligned(most_candidates(model) * sizeof(Detection)) +
         aligned(model.input.elements());
}

Health Device::check_model() const {
  if (model_.output_count > kMaxOutputs || !lies_in_arena(model_.input, model_.arena_size)) return Health::kModel;
  for (uint8_t i = 0; i < model_.output_count; i++) {
    if (!lies_in_arena(model_.outputs[i], model_.arena_size)) return Health::kModel;
  }
  if (model_.decode && (check_decode(model_) != Status::Ok || model_.decode->top_k == 0 ||
                        model_.decode->top_k > link::kMaxCandidates)) {
    return Health::kModel;
  }
  if (model_.espdl) {  // a build that does not embed the file has nothing to check
    uint8_t digest[32];
    sha256(model_.espdl, model_.espdl_size, digest);
    if (memcmp(digest, model_.hash, sizeof(digest)) != 0) return Health::kModelHash;
  }
  return Health::kOk;
}

void Device::refuse(Health health) {
  health_ = health;
  config_ = default_config();
  send_error(nullptr, ErrorCode::kNotReady, 0, link::health_text(health_));
}

void Device::start(uint8_t* memory, size_t size) {
  memory_size_ = size;
  Health health = check_model();
  if (health == Health::kOk && size < memory_needed(model_)) health = Health::kMemory;
  if (health != Health::kOk) return refuse(health);
  health_ = health;
  config_ = default_config();
  arena_ = memory;
  memory += aligned(model_.arena_size);
  rows_ = reinterpret_cast<Detection*>(memory);
  thumbnail_ = memory + aligned(most_candidates(model_) * sizeof(Detection));
  for (uint8_t i = 0; i < model_.output_count; i++) outputs_[i] = arena_ + model_.outputs[i].arena_offset;
  sink_ = {model_.input_table, model_.input.bytes, arena_ + model_.input.arena_offset, thumbnail_};
}

bool Device::poll() {
  uint8_t bytes[64];
  const size_t count = port_.read(bytes, sizeof(bytes));
  for (size_t i = 0; i < count; i++) {
    link::Packet packet;
    if (decoder_.push(bytes[i], &packet)) handle(packet);
  }
  return count != 0;
}

void Device::handle(const link::Packet& packet) {
  switch (packet.type) {
    case link::Hello::kType: return on_hello(packet);
    case link::Config::kType: return on_config(packet);
    case link::Frame::kType: return on_frame(packet);
    case link::StatsRequest::kType: return on_stats_request(packet);
    case link::Shutdown::kType: return on_shutdown(packet);
    default: unknown_++;
  }
}

void Device::on_hello(const link::Packet& packet) {
  // The version comes first and is read before anything that another version may have changed.
  if (packet.size >= 2 && link::get_u16(packet.payload) != link::kProtocolVersion) {
    session_ = false;
    return send_error(&packet, ErrorCode::kVersion, 0, "another protocol version is spoken here");  // it says which
  }
  if (packet.size != link::Hello::kSize) return send_error(&packet, ErrorCode::kBadMessage, 0, "HELLO of a wrong size");
  session_ = true;
  config_ = default_config();
  forget_picture();
  host_pictures_ = false;
  send_info();
}

bool Device::accept(const link::Packet& packet, bool good_size) {
  if (!session_) {
    send_error(&packet, ErrorCode::kNoSession, 0, "no session; say HELLO first");
  } else if (!good_size) {
    send_error(&packet, ErrorCode::kBadMessage, 0, "message of a wrong size");
  }
  return session_ && good_size;
}

void Device::on_config(const link::Packet& packet) {
  if (!accept(packet, packet.size == link::Config::kSize)) return;
  link::Config config;
  read(config, packet.payload);
  if (config.top_k == 0 || config.top_k > link::kMaxCandidates || config.limit == 0 ||
      config.limit > link::kMaxDetections || config.results_every == 0) {
    return send_error(&packet, ErrorCode::kBadConfig, 0, "top_k, limit or results_every out of range");
  }
  if (config.flags > 7) return send_error(&packet, ErrorCode::kBadConfig, 0, "unknown flags");
  config_ = config;
  if (has_flag(link::ConfigFlags::kStream)) host_pictures_ = false;
  send_ack(packet, picture_.head.frame_id, picture_.next);
}

void Device::on_stats_request(const link::Packet& packet) {
  if (accept(packet, packet.size == link::StatsRequest::kSize)) send_stats();
}

void Device::on_shutdown(const link::Packet& packet) {
  if (!accept(packet, packet.size == link::Shutdown::kSize)) return;
  link::Shutdown message;
  read(message, packet.payload);
  if (message.magic == link::kShutdownMagic) port_.shutdown();
  send_error(&packet, ErrorCode::kUnsupported, 0, "this device does not shut down");
}

bool Device::valid_picture(const link::Frame& head) const {
  const TensorInfo& input = model_.input;
  if (head.frame_id >= link::kCameraFrames || head.total == 0 || head.total > link::kMaxFrameBytes || head.offset > head.total) return false;
  const bool network_size = head.width == input.width && head.height == input.height && head.stride == 0;
  switch (static_cast<FrameFormat>(head.format)) {
    case FrameFormat::kNetworkU8: return network_size && head.total == input.elements();
    case FrameFormat::kTensor: return network_size && head.total == input.size();
    case FrameFormat::kCameraYuyv:
      return input.channels == 2 && check_camera({head.width, head.height, head.stride}, head.total) == Status::Ok;
  }
  return false;
}

void Device::on_frame(const link::Packet& packet) {
  if (!accept(packet, packet.size >= link::Frame::kSize)) return;
  link::Frame head;
  read(head, packet.payload);
  const uint8_t* data = packet.payload + link::Frame::kSize;
  uint32_t size = static_cast<uint32_t>(packet.size - link::Frame::kSize);
  if (health_ != Health::kOk) return send_error(&packet, ErrorCode::kNotReady, head.frame_id, link::health_text(health_));
  host_pictures_ = true;
  last_frame_us_ = port_.micros();
  const bool known = picture_.active && picture_.head.frame_id == head.frame_id;
  if (!valid_picture(head) || size > head.total - head.offset || (known && !same_picture(head, picture_.head))) {
    return send_error(&packet, ErrorCode::kBadFrame, head.frame_id, "the picture does not fit its size or the model");
  }
  if (!known) {
    // A later piece of a picture whose start was lost: ask for the start, keep what is there.
    if (head.offset != 0 || size == 0) return send_ack(packet, head.frame_id, 0);
    forget_picture();
    picture_.active = true;
    picture_.head = head;
    picture_.flags = config_.flags;
    picture_.thumbnail =
        thumbnail_due(head.frame_id) && head.format != static_cast<uint8_t>(FrameFormat::kTensor);  // which has none
    picture_.first_us = port_.micros();
  }
  if (picture_.complete) {
    send_ack(packet, head.frame_id, picture_.next);
    if (size == 0) send_results(picture_);
    return;
  }
  if (head.offset <= picture_.next && head.offset + size > picture_.next) {
    const uint32_t known_bytes = picture_.next - head.offset;
    data += known_bytes;
    size -= known_bytes;
    const uint64_t before = port_.micros();
    take_piece(data, picture_.next, size);
    picture_.timing.preprocess_us += static_cast<uint32_t>(port_.micros() - before);
    picture_.next += size;
  }
  send_ack(packet, head.frame_id, picture_.next);
  if (picture_.next == head.total) infer(packet);
}

void Device::forget_picture() { picture_ = {}; }

void Device::take_piece(const uint8_t* data, uint32_t offset, uint32_t size) {
  const link::Frame& head = picture_.head;
  const TensorInfo& input = model_.input;
  switch (static_cast<FrameFormat>(head.format)) {
    case FrameFormat::kNetworkU8:
      for (uint32_t i = 0; i < size; i++) sink_.put(offset + i, data[i]);
      break;
    case FrameFormat::kCameraYuyv:
      camera_piece({head.width, head.height, head.stride}, input.width, input.height, data, offset, size, sink_);
      break;
    case FrameFormat::kTensor:
      memcpy(static_cast<uint8_t*>(sink_.integers) + offset, data, size);  // all our targets are little endian
      break;
  }
}

void Device::infer(const link::Packet& packet) {
  const uint64_t complete_us = port_.micros();
  const uint32_t frame_id = picture_.head.frame_id;
  const Status status = run_model(&picture_, complete_us);
  if (status != Status::Ok) {
    forget_picture();
    return send_error(&packet, ErrorCode::kModelFailed, frame_id, status_text(status));
  }
  picture_.result.frame_id = frame_id;
  picture_.timing.timestamp_us = complete_us;
  picture_.timing.receive_us = static_cast<uint32_t>(complete_us - picture_.first_us);
  picture_.complete = true;
  send_results(picture_);
}

Status Device::run_model(Picture* picture, uint64_t complete_us) {
  link::Detections& result = picture->result;
  link::Timing& timing = picture->timing;
  const uint64_t before = port_.ticks();
  const Status status = run_(sink_.integers, outputs_, arena_);
  timing.inference_ticks = port_.ticks() - before;
  if (status != Status::Ok) return status;
  const uint64_t inferred_us = port_.micros();
  inferences_++;
  if (model_.decode) {
    const uint32_t most = most_candidates(model_);
    const uint16_t top_k = config_.top_k < most ? config_.top_k : static_cast<uint16_t>(most);
    uint32_t candidates = 0;
    size_t count = decode(model_, outputs_, {config_.score_threshold, config_.nms_iou, top_k}, rows_, &candidates);
    count = suppress(rows_, count, config_.nms_iou);
    result.candidates = static_cast<uint16_t>(candidates > 0xFFFF ? 0xFFFF : candidates);
    static_assert(link::kMaxDetections <= 0xFF, "on_config sees to it that the limit fits");
    result.count = static_cast<uint8_t>(count < config_.limit ? count : config_.limit);
  }
  timing.inference_us = static_cast<uint32_t>(inferred_us - complete_us);
  timing.decode_us = static_cast<uint32_t>(port_.micros() - inferred_us);
  times_.add(timing);
  return Status::Ok;
}

}  // namespace uhd
