#include "uhd/overlay.hpp"

#include "overlay_font.hpp"

namespace uhd {
namespace {

constexpr uint16_t rgb565(unsigned r, unsigned g, unsigned b) {
  return static_cast<uint16_t>((r >> 3) << 11 | (g >> 2) << 5 | b >> 3);
}

constexpr uint16_t kBlack = 0;
constexpr uint16_t kWhite = 0xffff;
// Of class 0, 1, ...; repeats.
constexpr uint16_t kPalette[] = {rgb565(255, 220, 0), rgb565(0, 230, 120), rgb565(60, 190, 255), rgb565(255, 130, 220)};

struct Rectangle {
  int32_t x0, y0, x1, y1;  // without x1 and y1
};

// A part of the display, in memory.
struct Strip {
  uint8_t* bytes;
  int32_t width, first_row, end_row;

  void put(int32_t x, int32_t y, uint16_t colour) const {
    uint8_t* pixel = bytes + 2 * ((y - first_row) * width + x);
    pixel[0] = static_cast<uint8_t>(colour >> 8);
    pixel[1] = static_cast<uint8_t>(colour);
  }

  void fill(Rectangle r, uint16_t colour) const {
    if (r.x0 < 0) r.x0 = 0;
    if (r.y0 < first_row) r.y0 = first_row;
    if (r.x1 > width) r.x1 = width;
    if (r.y1 > end_row) r.y1 = end_row;
    for (int32_t y = r.y0; y < r.y1; y++) {
      for (int32_t x = r.x0; x < r.x1; x++) put(x, y, colour);
    }
  }
};

uint8_t clip(int32_t value) { return static_cast<uint8_t>(value < 0 ? 0 : value > 255 ? 255 : value); }

// BT.601, studio range, in 1/256.
uint16_t colour_of(int32_t y, int32_t u, int32_t v) {
  const int32_t luma = 298 * (y - 16) + 128;
  u -= 128;
  v -= 128;
  return rgb565(clip((luma + 409 * v) >> 8), clip((luma - 100 * u - 208 * v) >> 8), clip((luma + 516 * u) >> 8));
}

uint16_t camera_pixel(const uint8_t* row, uint32_t x, PixelFormat format) {
  const uint8_t* pixel = row + 2 * x;
  if (format == PixelFormat::kRgb565Be) return static_cast<uint16_t>(pixel[0] << 8 | pixel[1]);
  if (format == PixelFormat::kRgb565Le) return static_cast<uint16_t>(pixel[1] << 8 | pixel[0]);
  const uint8_t* pair = row + 4 * (x / 2);
  return colour_of(pixel[0], pair[1], pair[3]);
}

// i * numerator / denominator for i = 0, 1, ..., without dividing.
class Steps {
 public:
  Steps(uint32_t numerator, uint32_t denominator)
      : whole_(numerator / denominator), part_(numerator % denominator), denominator_(denominator) {}
  uint32_t value() const { return value_; }
  void advance() {
    value_ += whole_;
    rest_ += part_;
    if (rest_ >= denominator_) {
      rest_ -= denominator_;
      value_++;
    }
  }

 private:
  uint32_t whole_, part_, denominator_, value_ = 0, rest_ = 0;
};

void draw_picture(const Strip& strip, const CameraFrame& frame, uint32_t height) {
  const CameraPicture& picture = frame.picture;
  for (int32_t y = strip.first_row; y < strip.end_row; y++) {
    const uint64_t source = static_cast<uint64_t>(y) * picture.height / height;
    const uint8_t* row = frame.data + source * picture.stride;
    Steps x(picture.width, static_cast<uint32_t>(strip.width));
    for (int32_t i = 0; i < strip.width; i++, x.advance()) strip.put(i, y, camera_pixel(row, x.value(), frame.format));
  }
}

// A short line of text, and where it goes.
class Text {
 public:
  void add(const char* text) {
    while (*text) add(*text++);
  }
  void add(char character) {
    if (length_ < sizeof(characters_)) characters_[length_++] = character;
  }
  void add_number(uint32_t number) {
    char digits[10];
    size_t count = 0;
    do digits[count++] = static_cast<char>('0' + number % 10);
    while (number /= 10);
    while (count) add(digits[--count]);
  }
  void add_percent(uint16_t q16) {
    add_number((static_cast<uint32_t>(q16) * 100 + 32767) / 65535);
    add('%');
  }

  // With a margin of one dot on all sides.
  int32_t width(int32_t dot) const { return (6 * static_cast<int32_t>(length_) + 1) * dot; }
  static int32_t height(int32_t dot) { return 9 * dot; }

  void draw(const Strip& strip, int32_t x, int32_t y, int32_t dot, uint16_t ink, uint16_t plate) const {
    const Rectangle all = {x, y, x + width(dot), y + height(dot)};
    if (all.y1 <= strip.first_row || all.y0 >= strip.end_row) return;
    strip.fill(all, plate);
    for (size_t i = 0; i < length_; i++) {
      const uint8_t* glyph = font_glyph(characters_[i]);
      const int32_t left = x + (6 * static_cast<int32_t>(i) + 1) * dot;
      for (int32_t row = 0; row < 7; row++) {
        for (int32_t column = 0; column < 5; column++) {
          if (!(glyph[row] >> (4 - column) & 1)) continue;
          const int32_t x0 = left + column * dot, y0 = y + (row + 1) * dot;
          strip.fill({x0, y0, x0 + dot, y0 + dot}, ink);
        }
      }
    }
  }

 private:
  char characters_[16];
  size_t length_ = 0;
};

// Display pixels of `center` +- `size` / 2 in 1/65535, rounded.
void edges(uint16_t center, uint32_t size, int32_t extent, int32_t* low, int32_t* high) {
  constexpr int64_t kOne = 2 * 65535;  // halves of the unit, so that size / 2 is exact
  const int64_t twice = 2LL * center;
  // Divisions of negative numbers round towards zero; shifted by a whole display they are positive.
  const auto pixel = [extent](int64_t halves) {
    const int64_t limit = 4 * kOne;  // far enough outside
    if (halves < -limit) halves = -limit;
    if (halves > limit) halves = limit;
    return static_cast<int32_t>(((halves + limit) * extent + kOne / 2) / kOne - 4 * extent);
  };
  *low = pixel(twice - size);
  *high = pixel(twice + size);
}

void draw_box(const Strip& strip, const Detection& box, int32_t height, int32_t dot) {
  Rectangle r;
  edges(box.cx, box.w, strip.width, &r.x0, &r.x1);
  edges(box.cy, box.h, height, &r.y0, &r.y1);
  if (r.x1 <= 0 || r.y1 <= 0 || r.x0 >= strip.width || r.y0 >= height) return;
  const uint16_t colour = kPalette[box.cls % (sizeof(kPalette) / sizeof(kPalette[0]))];
  const int32_t line = dot;
  strip.fill({r.x0, r.y0, r.x1, r.y0 + line}, colour);
  strip.fill({r.x0, r.y1 - line, r.x1, r.y1}, colour);
  strip.fill({r.x0, r.y0, r.x0 + line, r.y1}, colour);
  strip.fill({r.x1 - line, r.y0, r.x1, r.y1}, colour);

  Text score;
  score.add_percent(box.score);
  // Above the box; inside it where there is no room; always on the display, above the status.
  const int32_t above = r.y0 - Text::height(dot);
  const int32_t right = strip.width - score.width(dot), bottom = height - 2 * Text::height(dot);
  int32_t x = r.x0 < right ? r.x0 : right, y = above >= 0 ? above : r.y0 > 0 ? r.y0 : 0;
  if (x < 0) x = 0;
  if (y > bottom) y = bottom;
  if (y < 0) y = 0;
  score.draw(strip, x, y, dot, kBlack, colour);
}

void draw_status(const Strip& strip, uint16_t fps_x10, uint16_t threshold_q16, int32_t height, int32_t dot) {
  Text rate, threshold;
  rate.add_number(fps_x10 / 10u);
  rate.add('.');
  rate.add_number(fps_x10 % 10u);
  rate.add(" FPS");
  threshold.add("MIN ");
  threshold.add_percent(threshold_q16);
  const int32_t y = height - Text::height(dot);
  rate.draw(strip, 0, y, dot, kWhite, kBlack);
  threshold.draw(strip, strip.width - threshold.width(dot), y, dot, kWhite, kBlack);
}

}  // namespace

void overlay_rows(const CameraFrame& frame, const Detection* boxes, size_t count, uint16_t fps_x10,
                  uint16_t threshold_q16, uint16_t out_w, uint16_t out_h, uint16_t first_row, uint16_t rows,
                  uint16_t* rgb565_be) {
  const int32_t end = first_row + rows < out_h ? first_row + rows : out_h;
  const Strip strip = {reinterpret_cast<uint8_t*>(rgb565_be), out_w, first_row, end};
  if (first_row >= end || out_w == 0) return;
  if (frame.data && check_camera(frame.picture, frame.size) == Status::Ok) {
    draw_picture(strip, frame, out_h);
  } else {
    strip.fill({0, first_row, out_w, end}, kBlack);
  }
  // Text of 14 pixels on 240, of 7 on less than 160.
  const int32_t dot = 1 + out_w / 160;
  for (size_t i = count; i-- > 0;) draw_box(strip, boxes[i], out_h, dot);
  draw_status(strip, fps_x10, threshold_q16, out_h, dot);
}

}  // namespace uhd
