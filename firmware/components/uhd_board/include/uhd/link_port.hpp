// The byte pipe of the link on an ESP-IDF driver. Which driver it is, is chosen in Kconfig ("UHD board").
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "esp_err.h"
#include "uhd/device.hpp"

namespace uhd {

// What the drivers have in common: waiting for bytes, giving up on a host that does not read, clocks.
class LinkPort : public Port {
 public:
  // Sets the driver up. Allocates; once, before anything else.
  virtual esp_err_t open() = 0;
  virtual const char* name() const = 0;

  // Bytes of picture that fit the receive buffer with their framing.
  uint32_t credit() const { return kCredit; }

  // Returns when bytes have arrived, or after `milliseconds`.
  void wait(uint32_t milliseconds);

  size_t read(uint8_t* buffer, size_t capacity) final;
  // Drops the rest after kStallMs without progress, and from then on without waiting until there is room again. A host
  // that comes back finds the damaged frame by its CRC, and asks again.
  void write(const uint8_t* data, size_t size) final;
  uint64_t micros() final;
  uint64_t ticks() final;
  uint32_t dropped_bytes() final { return dropped_; }
  void heap(uint32_t* free, uint32_t* low_water) final;
  int16_t temperature() final;
  // The host has stopped reading.
  bool is_stalled() const { return stalled_; }

 protected:
  ~LinkPort() = default;

  // A picture of 64 x 64 x 2 bytes in flight, with the framing of pieces of 128 bytes and more.
  static constexpr uint32_t kCredit = 8192;
  static constexpr size_t kReceiveBuffer = 12288;
  static constexpr size_t kTransmitBuffer = 4096;
  static constexpr uint32_t kStallMs = 500;

  // Up to `capacity` bytes, waiting up to `milliseconds` for the first one. Returns how many.
  virtual size_t receive(uint8_t* buffer, size_t capacity, uint32_t milliseconds) = 0;
  // Takes some of the bytes, waiting up to `milliseconds` for room. Returns how many; 0: no room.
  virtual size_t transmit(const uint8_t* data, size_t size, uint32_t milliseconds) = 0;

 private:
  uint8_t early_ = 0;  // the byte that ended wait()
  bool has_early_ = false;
  bool stalled_ = false;
  uint32_t dropped_ = 0;
  uint32_t last_count_ = 0;
  uint64_t ticks_ = 0;
};

// The port that Kconfig chose.
LinkPort& link_port();

}  // namespace uhd
