// A guest that does nothing but send back what it receives, kBlock bytes at a time: what the emulated serial line
// carries at best for a device that takes a network input and sends it back.
#include <stdint.h>

#include "machine.hpp"

extern "C" {
[[noreturn]] void uhd_exit(int status) { emulator::exit_machine(status); }
[[noreturn]] void uhd_trap(uint32_t, uint32_t, uint32_t) { emulator::exit_machine(9); }
[[noreturn]] void __cxa_pure_virtual() { emulator::exit_machine(8); }
}

int main() {
  constexpr size_t kBlock = 64 * 64 * 2;
  static emulator::UartPort port;
  static uint8_t block[kBlock];
  port.start();
  for (;;) {
    for (size_t size = 0; size < kBlock;) {
      const size_t count = port.read(block + size, kBlock - size);
      if (count == 0) port.wait();
      size += count;
    }
    port.write(block, kBlock);
  }
}
