// The device's side of the link (docs/protocol.md): one loop that takes pictures, runs the model and sends boxes.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "uhd/decode.hpp"
#include "uhd/link.hpp"
#include "uhd/model.hpp"
#include "uhd/preprocess.hpp"
#include "uhd/status.hpp"

namespace uhd {

// What a board or an emulator supplies. write() (of Sink) returns when all bytes are taken.
class Port : public link::Sink {
 public:
  // Takes up to `capacity` received bytes without waiting; returns how many.
  virtual size_t read(uint8_t* buffer, size_t capacity) = 0;
  virtual uint64_t micros() = 0;  // since boot
  virtual uint64_t ticks() = 0;   // CPU cycles, or instructions in an emulator that counts them
  // Ends the program if there is somewhere to return to; otherwise returns.
  virtual void shutdown() {}

 protected:
  ~Port() = default;
};

using RunModel = Status (*)(const void* input, void* const* outputs, uint8_t* arena);

struct DeviceOptions {
  const char* backend = "reference";  // what `run` is, for INFO
  uint32_t credit = 2048;             // bytes of picture the port can hold back, see FRAME
};

class Device {
 public:
  Device(const ModelInfo& model, RunModel run, Port& port, const DeviceOptions& options)
      : model_(model), run_(run), port_(port), options_(options), writer_(port) {}

  // Bytes that start() needs for this model.
  static size_t memory_needed(const ModelInfo& model);

  // Checks the model's hash and lays out `memory` (aligned to kArenaAlignment), which the device then owns. If that
  // fails the device still answers, but refuses pictures and says why: health in INFO, and one ERROR at once.
  void start(uint8_t* memory, size_t size);

  // Handles what has arrived; false if nothing had.
  bool poll();

  link::Health health() const { return health_; }

 private:
  // The picture in flight, and its results until the next one begins.
  struct Picture {
    bool active = false;    // some of it has arrived
    bool complete = false;  // all of it has, and the results are there
    uint16_t flags = 0;     // of the configuration when it began
    link::Frame head = {};
    uint32_t next = 0;  // bytes received in order
    uint64_t first_us = 0;
    link::Detections result = {};
  };

  void handle(const link::Packet& packet);
  void on_hello(const link::Packet& packet);
  void on_config(const link::Packet& packet);
  void on_frame(const link::Packet& packet);
  void on_stats_request(const link::Packet& packet);
  void on_shutdown(const link::Packet& packet);

  // Whether a request may be served; answers it with an ERROR if not.
  bool accept(const link::Packet& packet, bool good_size);
  link::Health check_model() const;
  const char* health_text() const;
  link::Config default_config() const;
  bool valid_picture(const link::Frame& head) const;
  void take_piece(const uint8_t* data, uint32_t offset, uint32_t size);
  void infer(const link::Packet& packet);

  void send_info();
  void send_stats();
  void send_ack(const link::Packet& packet, uint32_t frame_id, uint32_t next);
  void send_error(const link::Packet* packet, link::ErrorCode code, uint32_t frame_id, const char* text);
  void send_version_error(const link::Packet& packet, uint16_t asked);
  void send_results();
  template <typename Message>
  void send_pieces(Message message, const uint8_t* data, uint32_t total);
  template <typename Message>
  void fill_counters(Message* message) const;

  static constexpr size_t kMaxOutputs = 16;

  const ModelInfo& model_;
  RunModel run_;
  Port& port_;
  DeviceOptions options_;
  link::Decoder decoder_;
  link::FrameWriter writer_;
  link::Health health_ = link::Health::kMemory;
  bool session_ = false;
  link::Config config_ = {};
  Picture picture_ = {};
  NetworkSink sink_ = {};
  uint8_t* arena_ = nullptr;
  uint8_t* thumbnail_ = nullptr;
  void* outputs_[kMaxOutputs] = {};
  Detection* rows_ = nullptr;
  uint32_t unknown_ = 0;
  uint32_t inferences_ = 0;
  size_t memory_size_ = 0;
};

}  // namespace uhd
