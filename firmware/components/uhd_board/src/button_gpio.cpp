#include "driver/gpio.h"
#include "esp_timer.h"
#include "sdkconfig.h"
#include "uhd/button.hpp"

namespace uhd {
namespace {

constexpr gpio_num_t kPin = static_cast<gpio_num_t>(CONFIG_UHD_BUTTON_GPIO);

bool configure() {
  gpio_config_t pin = {};
  pin.pin_bit_mask = 1ull << kPin;
  pin.mode = GPIO_MODE_INPUT;
  pin.pull_up_en = GPIO_PULLUP_ENABLE;
  return gpio_config(&pin) == ESP_OK;
}

}  // namespace

bool button_pressed() {
  static const bool is_ready = configure();
  static Debouncer debouncer;
  return is_ready && debouncer.update(gpio_get_level(kPin) == 0, static_cast<uint32_t>(esp_timer_get_time() / 1000));
}

}  // namespace uhd
