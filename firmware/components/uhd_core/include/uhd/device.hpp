// The device's side of the link (docs/protocol.md): one loop that takes pictures, runs the model and sends boxes.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "uhd/backend.hpp"
#include "uhd/camera.hpp"
#include "uhd/decode.hpp"
#include "uhd/link.hpp"
#include "uhd/model.hpp"
#include "uhd/preprocess.hpp"
#include "uhd/stage_times.hpp"
#include "uhd/status.hpp"

namespace uhd {

// What Port::temperature() says where there is no sensor.
constexpr int16_t kNoTemperature = INT16_MIN;

// What a board or an emulator supplies. write() (of Sink) returns when all bytes are taken.
class Port : public link::Sink {
 public:
  // Takes up to `capacity` received bytes without waiting; returns how many.
  virtual size_t read(uint8_t* buffer, size_t capacity) = 0;
  virtual uint64_t micros() = 0;  // since boot
  virtual uint64_t ticks() = 0;   // CPU cycles, or instructions in an emulator that counts them
  // Ends the program if there is somewhere to return to; otherwise returns.
  virtual void shutdown() {}
  // Bytes that write() has given up on since boot.
  virtual uint32_t dropped_bytes() { return 0; }
  // Free bytes of the heap, now and at the worst moment since boot; 0 where nothing is allocated at run time.
  virtual void heap(uint32_t* now, uint32_t* low_water) { *now = *low_water = 0; }

  // Of the chip, in tenths of a degree Celsius.
  virtual int16_t temperature() { return kNoTemperature; }

 protected:
  ~Port() = default;
};

// Who sees the camera's pictures with what was found in them: a display.
class Viewer {
 public:
  // Never waits. True: keeps the picture, and gives it back to the camera itself.
  virtual bool show(const CameraFrame& frame, const Detection* rows, size_t count, uint16_t fps_x10,
                    uint16_t score_threshold) = 0;

 protected:
  ~Viewer() = default;
};

struct DeviceOptions {
  const char* backend = "reference";  // what `run` is, for INFO
  uint32_t credit = 2048;             // bytes of picture the port can hold back, see FRAME
  link::ResetReason reset_reason = link::ResetReason::kUnknown;
  uint16_t score_threshold = 0;  // in 1/65535, instead of the model's own; 0: the model's own
  uint16_t nms_iou = 0;          // the same
};

// The camera's pictures a second that went through the model, over the last second or more. Times are microseconds.
class FrameRate {
 public:
  void count(uint64_t now);
  uint16_t x10(uint64_t now) const;  // 0 if there was no picture for two seconds

 private:
  uint64_t began_ = 0, last_ = 0;
  uint32_t pictures_ = 0;
  uint16_t x10_ = 0;
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

  // Instead of start(): answers the link, takes no pictures, and says why.
  void refuse(link::Health health);

  // Handles what has arrived; false if nothing had.
  bool poll();

  // The device's own camera, and a display. Null: none.
  void attach(Camera* camera, Viewer* viewer) {
    camera_ = camera;
    viewer_ = viewer;
  }
  // Takes the camera's newest picture through the model; false if there is none, or the camera has to wait: a picture
  // of the host's goes first, and the camera only goes on when the host asks for the stream, starts a session, or has
  // been silent for kHostPauseMs.
  bool watch();
  bool has_camera() const { return camera_ != nullptr; }

  // A fault (ErrorCode from kFirstFault on) began or ended. The host hears of it at once, and in INFO and STATS for as
  // long as it stands. `text` may add something to what the code says, or be null.
  void fault(link::ErrorCode code, const char* text = nullptr);
  void mended(link::ErrorCode code) { faults_ &= ~fault_bit(code); }
  bool has_fault(link::ErrorCode code) const { return (faults_ & fault_bit(code)) != 0; }

  uint16_t score_threshold() const { return config_.score_threshold; }
  // Until the host's next HELLO or CONFIG.
  void set_score_threshold(uint16_t q16) { config_.score_threshold = q16; }
  // The one that a session starts with.
  uint16_t own_threshold() const { return default_config().score_threshold; }

  link::Health health() const { return health_; }

 private:
  // A picture with its results.
  struct Picture {
    bool active = false;    // some of it has arrived
    bool complete = false;  // all of it has, and the results are there
    bool thumbnail = false;  // the network input goes with the results; as configured when it began, like the flags
    uint16_t flags = 0;
    link::Frame head = {};
    uint32_t next = 0;  // bytes received in order
    uint64_t first_us = 0;
    link::Timing timing = {};
    link::Detections result = {};
  };

  static uint32_t fault_bit(link::ErrorCode code) {
    return uint32_t{1} << (static_cast<uint32_t>(code) - link::kFirstFault);
  }

  void handle(const link::Packet& packet);
  void on_hello(const link::Packet& packet);
  void on_config(const link::Packet& packet);
  void on_frame(const link::Packet& packet);
  void on_stats_request(const link::Packet& packet);
  void on_shutdown(const link::Packet& packet);

  // Whether a request may be served; answers it with an ERROR if not.
  bool accept(const link::Packet& packet, bool good_size);
  link::Health check_model() const;
  link::Config default_config() const;
  bool valid_picture(const link::Frame& head) const;
  void forget_picture();
  void take_piece(const uint8_t* data, uint32_t offset, uint32_t size);
  void infer(const link::Packet& packet);
  // Runs the model on what is in its input, and decodes.
  Status run_model(Picture* picture, uint64_t complete_us);
  // Whether the network input of the number-th picture that has results is asked for.
  bool thumbnail_due(uint32_t number) const {
    return config_.thumbnail_every != 0 && number % config_.thumbnail_every == 0;
  }
  bool has_flag(link::ConfigFlags flag) const { return (config_.flags & static_cast<uint16_t>(flag)) != 0; }
  bool camera_may_run();
  bool fits(const CameraFrame& frame) const;

  void send_info();
  void send_stats();
  void send_ack(const link::Packet& packet, uint32_t frame_id, uint32_t next);
  void send_error(const link::Packet* packet, link::ErrorCode code, uint32_t frame_id, const char* text);
  void send_results(const Picture& picture);
  // Sends `data` piece by piece as messages of one type with these first fields.
  template <typename Message>
  void send_pieces(Message message, uint32_t frame_id, const void* data, uint32_t total);
  void send_pieces(uint8_t type, void* message, size_t size, const uint8_t* data, uint32_t total);
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
  Picture picture_ = {};        // the host's, in flight; its results until the next one begins
  bool host_pictures_ = false;  // the host sends some, so the camera waits
  uint64_t last_frame_us_ = 0;  // when its last FRAME came
  Camera* camera_ = nullptr;
  Viewer* viewer_ = nullptr;
  CameraFrame seen_ = {};  // the camera's last picture, for INFO
  FrameRate rate_;
  StageTimes times_;
  uint32_t camera_inferences_ = 0;
  uint32_t faults_ = 0;
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
