#include "driver/uart.h"
#include "freertos/FreeRTOS.h"
#include "sdkconfig.h"
#include "uhd/link_port.hpp"

namespace uhd {
namespace {

constexpr uart_port_t kUart = static_cast<uart_port_t>(CONFIG_UHD_LINK_UART_NUMBER);

class UartPort final : public LinkPort {
 public:
  esp_err_t open() override {
    uart_config_t config = {};
    config.baud_rate = CONFIG_UHD_LINK_UART_BAUD;
    config.data_bits = UART_DATA_8_BITS;
    config.parity = UART_PARITY_DISABLE;
    config.stop_bits = UART_STOP_BITS_1;
    config.flow_ctrl = UART_HW_FLOWCTRL_DISABLE;
    config.source_clk = UART_SCLK_DEFAULT;
    // -1 is UART_PIN_NO_CHANGE.
    esp_err_t status = uart_driver_install(kUart, kReceiveBuffer, kTransmitBuffer, 0, nullptr, 0);
    if (status == ESP_OK) status = uart_param_config(kUart, &config);
    if (status == ESP_OK) {
      status = uart_set_pin(kUart, CONFIG_UHD_LINK_UART_TX, CONFIG_UHD_LINK_UART_RX, UART_PIN_NO_CHANGE, UART_PIN_NO_CHANGE);
    }
    return status;
  }

  const char* name() const override { return "UART"; }

 protected:
  size_t receive(uint8_t* buffer, size_t capacity, uint32_t milliseconds) override {
    // The driver waits for all bytes it is asked for: first take what is there, then wait for one.
    size_t waiting = 0;
    if (uart_get_buffered_data_len(kUart, &waiting) != ESP_OK) return 0;
    if (waiting == 0) {
      if (milliseconds == 0) return 0;
      waiting = 1;
    }
    const uint32_t wanted = static_cast<uint32_t>(waiting < capacity ? waiting : capacity);
    const int count = uart_read_bytes(kUart, buffer, wanted, pdMS_TO_TICKS(milliseconds));
    return count > 0 ? static_cast<size_t>(count) : 0;
  }

  size_t transmit(const uint8_t* data, size_t size, uint32_t) override {
    // Returns when the bytes are in the driver's buffer. Without flow control that buffer always drains.
    const int count = uart_write_bytes(kUart, data, size);
    return count > 0 ? static_cast<size_t>(count) : 0;
  }
};

}  // namespace

LinkPort& link_port() {
  static UartPort port;
  return port;
}

}  // namespace uhd
