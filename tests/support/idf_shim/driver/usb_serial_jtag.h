#pragma once
#include <stddef.h>
#include <stdint.h>
#include "esp_err.h"
// The calls and the rules of ESP-IDF's driver; the harness implements them.
extern "C" {
typedef struct {
  uint32_t tx_buffer_size, rx_buffer_size;
  int intr_priority;
} usb_serial_jtag_driver_config_t;
esp_err_t usb_serial_jtag_driver_install(usb_serial_jtag_driver_config_t* config);
int usb_serial_jtag_read_bytes(void* buffer, uint32_t length, uint32_t ticks);
int usb_serial_jtag_write_bytes(const void* data, size_t size, uint32_t ticks);
}
