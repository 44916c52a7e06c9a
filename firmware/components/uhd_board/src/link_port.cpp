#include "uhd/link_port.hpp"

#include "esp_cpu.h"
#include "esp_heap_caps.h"
#include "esp_timer.h"
#include "uhd/temperature.hpp"

namespace uhd {

void LinkPort::wait(uint32_t milliseconds) {
  if (!has_early_) has_early_ = receive(&early_, 1, milliseconds) == 1;
}

size_t LinkPort::read(uint8_t* buffer, size_t capacity) {
  if (capacity == 0) return 0;
  size_t count = 0;
  if (has_early_) {
    buffer[count++] = early_;
    has_early_ = false;
  }
  if (count < capacity) count += receive(buffer + count, capacity - count, 0);
  return count;
}

void LinkPort::write(const uint8_t* data, size_t size) {
  while (size) {
    const size_t sent = transmit(data, size, stalled_ ? 0 : kStallMs);
    stalled_ = sent == 0;
    if (stalled_) {
      dropped_ += static_cast<uint32_t>(size);
      return;
    }
    data += sent;
    size -= sent;
  }
}

uint64_t LinkPort::micros() { return static_cast<uint64_t>(esp_timer_get_time()); }

void LinkPort::heap(uint32_t* free, uint32_t* low_water) {
  *free = static_cast<uint32_t>(heap_caps_get_free_size(MALLOC_CAP_8BIT));
  *low_water = static_cast<uint32_t>(heap_caps_get_minimum_free_size(MALLOC_CAP_8BIT));
}

int16_t LinkPort::temperature() { return chip_temperature(); }

uint64_t LinkPort::ticks() {
  // 32 bits wrap after 11 s at 400 MHz; the device asks before and after each inference.
  const uint32_t count = static_cast<uint32_t>(esp_cpu_get_cycle_count());
  ticks_ += count - last_count_;
  last_count_ = count;
  return ticks_;
}

}  // namespace uhd
