// The QEMU `virt` machine: a 16550 UART that sleeps in wfi between bytes, clocks, and the way out.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "uhd/device.hpp"

namespace emulator {

class UartPort final : public uhd::Port {
 public:
  void start();

  size_t read(uint8_t* buffer, size_t capacity) override;
  void write(const uint8_t* data, size_t size) override;
  uint64_t micros() override;
  uint64_t ticks() override;
  void shutdown() override;

  void print(const char* text);
  // Sleeps until a byte may have arrived.
  void wait();
};

// Ends QEMU with this exit status.
[[noreturn]] void exit_machine(int status);

}  // namespace emulator
