#include "driver/usb_serial_jtag.h"
#include "freertos/FreeRTOS.h"
#include "uhd/link_port.hpp"

namespace uhd {
namespace {

class UsbSerialJtagPort final : public LinkPort {
 public:
  esp_err_t open() override {
    usb_serial_jtag_driver_config_t config = {};
    config.tx_buffer_size = kTransmitBuffer;
    config.rx_buffer_size = kReceiveBuffer;
    return usb_serial_jtag_driver_install(&config);
  }

  const char* name() const override { return "USB-Serial-JTAG"; }

 protected:
  size_t receive(uint8_t* buffer, size_t capacity, uint32_t milliseconds) override {
    const int count = usb_serial_jtag_read_bytes(buffer, static_cast<uint32_t>(capacity), pdMS_TO_TICKS(milliseconds));
    return count > 0 ? static_cast<size_t>(count) : 0;
  }

  size_t transmit(const uint8_t* data, size_t size, uint32_t milliseconds) override {
    // The driver takes all or nothing, so a piece has to fit its buffer with room to spare.
    const size_t piece = size < kTransmitBuffer / 4 ? size : kTransmitBuffer / 4;
    const int count = usb_serial_jtag_write_bytes(data, piece, pdMS_TO_TICKS(milliseconds));
    return count > 0 ? static_cast<size_t>(count) : 0;
  }
};

}  // namespace

LinkPort& link_port() {
  static UsbSerialJtagPort port;
  return port;
}

}  // namespace uhd
