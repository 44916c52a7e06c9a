// Frames of the link (docs/protocol.md): COBS and CRC-32 over a byte pipe, in constant memory both ways.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "uhd/link_messages.hpp"

namespace uhd {
namespace link {

// CRC-32 of zlib: start with 0, feed the result back to go on.
uint32_t crc32(uint32_t crc, const uint8_t* data, size_t size);

struct Packet {
  uint8_t type;
  uint16_t seq;
  const uint8_t* payload;  // valid until the next push()
  size_t size;
};

struct DecoderCounters {
  uint32_t frames;
  uint32_t crc_errors;
  uint32_t malformed;
  uint32_t overlong;
};

// Takes a stream byte by byte. Memory is constant: the body of one frame.
class Decoder {
 public:
  // True if `byte` completed a good frame, which `packet` then describes.
  bool push(uint8_t byte, Packet* packet);
  const DecoderCounters& counters() const { return counters_; }

 private:
  bool finish(Packet* packet);

  uint8_t body_[kMaxBody];
  size_t size_ = 0;
  uint8_t left_ = 0;           // bytes that the current COBS block still owes
  bool zero_pending_ = false;  // the block that ended stands for a zero, if another one follows
  bool started_ = false;       // the segment has at least one byte
  bool too_long_ = false;      // the rest of the segment is skipped
  DecoderCounters counters_ = {};
};

// Where encoded bytes go.
class Sink {
 public:
  virtual void write(const uint8_t* data, size_t size) = 0;

 protected:
  ~Sink() = default;
};

// Writes one frame at a time, piece by piece, holding one COBS block.
class FrameWriter {
 public:
  explicit FrameWriter(Sink& sink, uint16_t first_seq = 0) : sink_(sink), next_seq_(first_seq) {}

  // Starts a frame and returns its sequence number. The payload put() until end() must not exceed kMaxPayload.
  uint16_t begin(uint8_t type);
  uint16_t begin(uint8_t type, const void* data, size_t size);
  void put(const void* data, size_t size);
  void end();

  // A frame that is one message of the table.
  template <typename Message>
  uint16_t begin(const Message& message) {
    static_assert(Message::kSize <= kMaxPayload, "a message must fit a frame");
    return begin(Message::kType, &message, Message::kSize);
  }
  template <typename Message>
  void send(const Message& message) {
    begin(message);
    end();
  }

 private:
  void encode(const uint8_t* data, size_t size);
  void flush_block();

  Sink& sink_;
  uint8_t block_[255];  // [0] is the code
  uint8_t used_ = 1;
  bool full_ = false;  // the last block was a full one, which stands for no zero
  uint16_t next_seq_;
  uint32_t crc_ = 0;
};

}  // namespace link
}  // namespace uhd
