// The 240 x 240 display of the ESP32-S3-EYE: an ST7789 on SPI, on ESP-IDF's esp_lcd.
#include <string.h>

#include "driver/gpio.h"
#include "driver/spi_master.h"
#include "esp_heap_caps.h"
#include "esp_lcd_io_spi.h"
#include "esp_lcd_panel_io.h"
#include "esp_lcd_panel_ops.h"
#include "esp_lcd_panel_vendor.h"
#include "freertos/FreeRTOS.h"
#include "freertos/semphr.h"
#include "uhd/display.hpp"
#include "uhd/overlay.hpp"

namespace uhd {
namespace {

constexpr uint16_t kSide = 240;
// Rows of a strip: one is drawn while the other one goes out.
constexpr uint16_t kRows = 20;
constexpr size_t kStrip = size_t{2} * kSide * kRows;
static_assert(kSide % (2 * kRows) == 0, "an even number of strips fills the display");

// DC and CS are the pins of UART0, whose text ends here.
constexpr gpio_num_t kClock = GPIO_NUM_21;
constexpr gpio_num_t kData = GPIO_NUM_47;
constexpr gpio_num_t kDataCommand = GPIO_NUM_43;
constexpr gpio_num_t kSelect = GPIO_NUM_44;
constexpr gpio_num_t kLight = GPIO_NUM_48;  // on at 0
constexpr spi_host_device_t kHost = SPI3_HOST;

class St7789 final : public Display {
 public:
  esp_err_t start() override {
    idle_ = xSemaphoreCreateCountingStatic(2, 2, &idle_memory_);
    for (uint16_t*& strip : strips_) {
      strip = static_cast<uint16_t*>(heap_caps_malloc(kStrip, MALLOC_CAP_DMA | MALLOC_CAP_INTERNAL));
      if (!strip) return ESP_ERR_NO_MEM;
    }
    esp_err_t status = start_bus();
    if (status == ESP_OK) status = start_panel();
    if (status != ESP_OK) return status;
    started_ = true;
    memset(strips_[0], 0, kStrip);
    for (uint16_t row = 0; row < kSide; row += kRows) {
      wait_for_strip();
      send(row, strips_[0]);
    }
    status = esp_lcd_panel_disp_on_off(panel_, true);
    return status == ESP_OK ? light() : status;
  }

  void show(const DisplayJob& job) override {
    if (!started_) return;
    for (uint16_t row = 0; row < kSide; row += kRows) {
      wait_for_strip();  // they go out in order, so it is this one
      uint16_t* strip = strips_[row / kRows % 2];
      overlay_rows(job.frame, job.boxes, job.count, job.fps_x10, job.score_threshold_q16, kSide, kSide, row, kRows,
                   strip);
      send(row, strip);
    }
  }

 private:
  static bool sent(esp_lcd_panel_io_handle_t, esp_lcd_panel_io_event_data_t*, void* display) {
    BaseType_t woken = pdFALSE;
    xSemaphoreGiveFromISR(static_cast<St7789*>(display)->idle_, &woken);
    return woken == pdTRUE;
  }

  static esp_err_t start_bus() {
    spi_bus_config_t bus = {};
    bus.sclk_io_num = kClock;
    bus.mosi_io_num = kData;
    bus.miso_io_num = GPIO_NUM_NC;
    bus.quadwp_io_num = GPIO_NUM_NC;
    bus.quadhd_io_num = GPIO_NUM_NC;
    bus.max_transfer_sz = static_cast<int>(kStrip);
    return spi_bus_initialize(kHost, &bus, SPI_DMA_CH_AUTO);
  }

  esp_err_t start_panel() {
    esp_lcd_panel_io_spi_config_t io = {};
    io.cs_gpio_num = kSelect;
    io.dc_gpio_num = kDataCommand;
    io.pclk_hz = 80 * 1000 * 1000;
    io.trans_queue_depth = 2;
    io.on_color_trans_done = sent;
    io.user_ctx = this;
    io.lcd_cmd_bits = 8;
    io.lcd_param_bits = 8;
    esp_lcd_panel_io_handle_t handle = nullptr;
    esp_err_t status = esp_lcd_new_panel_io_spi(static_cast<esp_lcd_spi_bus_handle_t>(kHost), &io, &handle);
    if (status != ESP_OK) return status;
    esp_lcd_panel_dev_config_t panel = {};
    panel.reset_gpio_num = GPIO_NUM_NC;
    panel.rgb_ele_order = LCD_RGB_ELEMENT_ORDER_RGB;
    panel.bits_per_pixel = 16;
    status = esp_lcd_new_panel_st7789(handle, &panel, &panel_);
    if (status == ESP_OK) status = esp_lcd_panel_reset(panel_);
    if (status == ESP_OK) status = esp_lcd_panel_init(panel_);
    if (status == ESP_OK) status = esp_lcd_panel_invert_color(panel_, true);
    return status;
  }

  static esp_err_t light() {
    gpio_config_t pin = {};
    pin.pin_bit_mask = 1ull << kLight;
    pin.mode = GPIO_MODE_OUTPUT;
    const esp_err_t status = gpio_config(&pin);
    return status == ESP_OK ? gpio_set_level(kLight, 0) : status;
  }

  // Until one of the two strips is not going out; sent() says when.
  void wait_for_strip() { xSemaphoreTake(idle_, portMAX_DELAY); }

  void send(uint16_t row, const uint16_t* strip) {
    if (esp_lcd_panel_draw_bitmap(panel_, 0, row, kSide, row + kRows, strip) != ESP_OK) xSemaphoreGive(idle_);
  }

  bool started_ = false;
  uint16_t* strips_[2] = {};
  esp_lcd_panel_handle_t panel_ = nullptr;
  StaticSemaphore_t idle_memory_ = {};
  SemaphoreHandle_t idle_ = nullptr;
};

}  // namespace

Display* display() {
  static St7789 display;
  return &display;
}

}  // namespace uhd
