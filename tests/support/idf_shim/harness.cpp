// Both drivers' rules on two byte queues, and a C interface to the port under test. Time passes only in their waits.
#include <deque>

#include "driver/temperature_sensor.h"
#include "driver/uart.h"
#include "driver/usb_serial_jtag.h"
#include "uhd/link_port.hpp"
#include "uhd/temperature.hpp"

uint32_t shim_cycles = 0;

namespace {
std::deque<uint8_t> received, sent;
size_t room = 0, transmit_buffer = 0, receive_buffer = 0;
uint32_t waited_ms = 0;
float celsius = 0;
esp_err_t sensor_status = ESP_OK;
int baud = 0, tx_pin = 0, rx_pin = 0;

int take(void* buffer, size_t count) {
  for (size_t i = 0; i < count; i++) {
    static_cast<uint8_t*>(buffer)[i] = received.front();
    received.pop_front();
  }
  return static_cast<int>(count);
}
int give(const void* data, size_t size) {
  const uint8_t* bytes = static_cast<const uint8_t*>(data);
  sent.insert(sent.end(), bytes, bytes + size);
  return static_cast<int>(size);
}
}  // namespace

extern "C" {

esp_err_t usb_serial_jtag_driver_install(usb_serial_jtag_driver_config_t* config) {
  room = transmit_buffer = config->tx_buffer_size;
  receive_buffer = config->rx_buffer_size;
  return ESP_OK;
}
int usb_serial_jtag_read_bytes(void* buffer, uint32_t length, uint32_t ticks) {
  if (received.empty()) waited_ms += ticks;
  return take(buffer, length < received.size() ? length : received.size());
}
int usb_serial_jtag_write_bytes(const void* data, size_t size, uint32_t ticks) {
  if (size > room) {  // all or nothing; more than the whole buffer never fits
    waited_ms += ticks;
    return 0;
  }
  room -= size;
  return give(data, size);
}

esp_err_t uart_driver_install(uart_port_t, int rx, int tx, int, void*, int) {
  receive_buffer = static_cast<size_t>(rx);
  transmit_buffer = static_cast<size_t>(tx);
  return ESP_OK;
}
esp_err_t uart_param_config(uart_port_t, const uart_config_t* config) {
  baud = config->baud_rate;
  return ESP_OK;
}
esp_err_t uart_set_pin(uart_port_t, int tx, int rx, int, int) {
  tx_pin = tx;
  rx_pin = rx;
  return ESP_OK;
}
esp_err_t uart_get_buffered_data_len(uart_port_t, size_t* size) {
  *size = received.size();
  return ESP_OK;
}
int uart_read_bytes(uart_port_t, void* buffer, uint32_t length, TickType_t ticks) {
  if (received.size() < length) waited_ms += ticks;  // waits for all of them
  return take(buffer, length < received.size() ? length : received.size());
}
int uart_write_bytes(uart_port_t, const void* data, size_t size) { return give(data, size); }

esp_err_t temperature_sensor_install(const temperature_sensor_config_t* config, temperature_sensor_handle_t* sensor) {
  *sensor = reinterpret_cast<temperature_sensor_handle_t>(&celsius);
  return config->range_min < config->range_max ? ESP_OK : ESP_FAIL;
}
esp_err_t temperature_sensor_enable(temperature_sensor_handle_t) { return sensor_status; }
esp_err_t temperature_sensor_get_celsius(temperature_sensor_handle_t, float* value) {
  *value = celsius;
  return sensor_status;
}

// Of the sensor; `works`: 0 lets its driver fail from now on.
void shim_celsius(float value, int works) {
  celsius = value;
  sensor_status = works ? ESP_OK : ESP_FAIL;
}
int shim_start_temperature(void) { return uhd::start_temperature(); }
int shim_temperature(void) { return uhd::link_port().temperature(); }
int shim_open(void) { return uhd::link_port().open(); }
void shim_wait(uint32_t milliseconds) { uhd::link_port().wait(milliseconds); }
size_t shim_read(uint8_t* buffer, size_t capacity) { return uhd::link_port().read(buffer, capacity); }
void shim_write(const uint8_t* data, size_t size) { uhd::link_port().write(data, size); }
uint64_t shim_ticks(uint32_t cycles) {
  shim_cycles = cycles;
  return uhd::link_port().ticks();
}
uint32_t shim_credit(void) { return uhd::link_port().credit(); }
size_t shim_receive_buffer(void) { return receive_buffer; }
size_t shim_transmit_buffer(void) { return transmit_buffer; }
int shim_setting(int which) { return which == 0 ? baud : which == 1 ? tx_pin : rx_pin; }

void shim_arrive(const uint8_t* data, size_t size) { received.insert(received.end(), data, data + size); }
size_t shim_sent(uint8_t* out) {  // the host reads: there is room again
  const size_t size = sent.size();
  for (size_t i = 0; i < size; i++) out[i] = sent[i];
  sent.clear();
  room = transmit_buffer;
  return size;
}
uint32_t shim_waited(void) {
  const uint32_t result = waited_ms;
  waited_ms = 0;
  return result;
}

}  // extern "C"
