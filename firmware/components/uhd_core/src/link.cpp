#include "uhd/link.hpp"

namespace uhd {
namespace link {
namespace {

constexpr size_t kHead = 3;  // type and sequence number
constexpr size_t kCrc = 4;

// Half-byte table of the reflected polynomial 0xEDB88320: 64 bytes instead of 1 KB, two steps a byte.
constexpr uint32_t kNibble[16] = {
    0x00000000, 0x1DB71064, 0x3B6E20C8, 0x26D930AC, 0x76DC4190, 0x6B6B51F4, 0x4DB26158, 0x5005713C,
    0xEDB88320, 0xF00F9344, 0xD6D6A3E8, 0xCB61B38C, 0x9B64C2B0, 0x86D3D2D4, 0xA00AE278, 0xBDBDF21C,
};

}  // namespace

uint32_t crc32(uint32_t crc, const uint8_t* data, size_t size) {
  crc = ~crc;
  for (size_t i = 0; i < size; i++) {
    crc ^= data[i];
    crc = kNibble[crc & 15] ^ (crc >> 4);
    crc = kNibble[crc & 15] ^ (crc >> 4);
  }
  return ~crc;
}

bool Decoder::push(uint8_t byte, Packet* packet) {
  if (byte == 0) {
    const bool good = finish(packet);
    size_ = 0;
    left_ = 0;
    zero_pending_ = started_ = too_long_ = false;
    return good;
  }
  started_ = true;
  if (too_long_) return false;
  if (left_ == 0) {  // a code byte
    if (zero_pending_) {
      if (size_ == kMaxBody) {
        too_long_ = true;
        return false;
      }
      body_[size_++] = 0;
    }
    left_ = static_cast<uint8_t>(byte - 1);
    zero_pending_ = byte != 0xFF;
    return false;
  }
  if (size_ == kMaxBody) {
    too_long_ = true;
    return false;
  }
  body_[size_++] = byte;
  left_--;
  return false;
}

bool Decoder::finish(Packet* packet) {
  if (!started_) return false;
  if (too_long_) {
    counters_.overlong++;
    return false;
  }
  if (left_ != 0 || size_ < kHead + kCrc || body_[0] < kTypeFirst || body_[0] > kTypeLast) {
    counters_.malformed++;
    return false;
  }
  const size_t checked = size_ - kCrc;
  if (crc32(0, body_, checked) != get_u32(body_ + checked)) {
    counters_.crc_errors++;
    return false;
  }
  counters_.frames++;
  *packet = {body_[0], get_u16(body_ + 1), body_ + kHead, checked - kHead};
  return true;
}

uint16_t FrameWriter::begin(uint8_t type) {
  const uint16_t seq = next_seq_++;
  const uint8_t zero = 0;
  sink_.write(&zero, 1);
  used_ = 1;
  full_ = false;
  crc_ = 0;
  uint8_t head[kHead] = {type};
  put_u16(head + 1, seq);
  put(head, kHead);
  return seq;
}

uint16_t FrameWriter::begin(uint8_t type, const void* data, size_t size) {
  const uint16_t seq = begin(type);
  put(data, size);
  return seq;
}

void FrameWriter::put(const void* data, size_t size) {
  const uint8_t* bytes = static_cast<const uint8_t*>(data);
  crc_ = crc32(crc_, bytes, size);
  encode(bytes, size);
}

void FrameWriter::end() {
  uint8_t tail[kCrc];
  put_u32(tail, crc_);
  encode(tail, kCrc);
  if (used_ > 1 || !full_) flush_block();
  const uint8_t zero = 0;
  sink_.write(&zero, 1);
}

void FrameWriter::encode(const uint8_t* data, size_t size) {
  for (size_t i = 0; i < size; i++) {
    full_ = false;
    if (data[i] == 0) {
      flush_block();
      continue;
    }
    block_[used_++] = data[i];
    if (used_ == sizeof(block_)) {
      flush_block();
      full_ = true;
    }
  }
}

void FrameWriter::flush_block() {
  block_[0] = used_;
  sink_.write(block_, used_);
  used_ = 1;
}

}  // namespace link
}  // namespace uhd
