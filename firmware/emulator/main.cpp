// The firmware of the emulated device: the same core and the same model as on a chip, on a serial port of QEMU's.
#include <stdint.h>

#include "machine.hpp"
#include "uhd/device.hpp"
#include "uhd/model.hpp"

extern "C" uint8_t __free_start[], __free_end[];

namespace {

emulator::UartPort port;

void print_hex(uint32_t value) {
  char text[11] = "0x";
  for (int i = 0; i < 8; i++) text[2 + i] = "0123456789abcdef"[(value >> (28 - 4 * i)) & 15];
  port.print(text);
}

}  // namespace

extern "C" {

[[noreturn]] void uhd_exit(int status) { emulator::exit_machine(status); }

[[noreturn]] void uhd_trap(uint32_t cause, uint32_t pc, uint32_t value) {
  port.print("\r\ntrap: cause ");
  print_hex(cause);
  port.print(" at ");
  print_hex(pc);
  port.print(" value ");
  print_hex(value);
  port.print("\r\n");
  emulator::exit_machine(9);
}

// What the compiler puts where a pure virtual function has no body.
[[noreturn]] void __cxa_pure_virtual() { emulator::exit_machine(8); }

}  // extern "C"

int main() {
  port.start();
  const uhd::ModelInfo& model = uhd::model_info();
  port.print("uhd: ");
  port.print(model.name);
  port.print(" for target ");
  port.print(model.target);
  port.print(" on QEMU virt\r\n");

  // QEMU holds bytes back while we compute, so the whole network input may be under way.
  static uhd::Device device(model, uhd::model_run, port, {"reference", 16384});
  const size_t available = static_cast<size_t>(__free_end - __free_start);
  const size_t needed = uhd::Device::memory_needed(model);
  device.start(__free_start, needed < available ? needed : available);
  for (;;) {
    if (!device.poll()) port.wait();
  }
}
