// Random head outputs through decode() and suppress(), for the sanitizers: every buffer is a heap block of exactly the
// size that the interface promises. Arguments: count, seed. Prints how many tensors, candidates and boxes there were.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "uhd/decode.hpp"

namespace {

uint64_t state;

uint32_t draw() {  // splitmix64
  uint64_t z = (state += 0x9E3779B97F4A7C15u);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return static_cast<uint32_t>((z ^ (z >> 31)) >> 16);
}
uint32_t below(uint32_t end) { return draw() % end; }

// One style a tensor: all of one extreme, only extremes, anything, or anything within a narrow range.
void fill(uint8_t* data, uint32_t size) {
  const uint32_t style = below(8);
  const uint8_t low = static_cast<uint8_t>(draw()), span = static_cast<uint8_t>(1 + below(255));
  uint32_t word = 0;
  for (uint32_t i = 0; i < size; i++) {
    if (i % 4 == 0) word = draw();
    const uint8_t byte = static_cast<uint8_t>(word >> (8 * (i % 4)));
    switch (style) {
      case 0: data[i] = 0x80; break;
      case 1: data[i] = 0x7F; break;
      case 2: data[i] = byte & 1 ? 0x80 : 0x7F; break;
      case 3: data[i] = static_cast<uint8_t>(low + byte % span); break;
      default: data[i] = byte;
    }
  }
}

// What is wrong with the rows, or null.
const char* fault(const uhd::ModelInfo& model, const uhd::DecodeSettings& settings, const uhd::Detection* rows,
                  size_t count, uint32_t candidates) {
  const uhd::DecodeSpec& spec = *model.decode;
  const uint32_t cells = static_cast<uint32_t>(spec.grid_h) * spec.grid_w;
  if (count > settings.top_k || count > candidates || candidates > cells * spec.anchor_count) return "too many rows";
  for (size_t i = 0; i < count; i++) {
    const uhd::Detection& row = rows[i];
    const uint32_t candidate = 65535 - (row.rank & 0xFFFF);
    if (row.score == 0 || row.score < settings.score_threshold_q16) return "a score below the threshold";
    if (row.score != row.rank >> 16 || candidate >= cells * spec.anchor_count) return "a rank of another candidate";
    if (i > 0 && rows[i - 1].rank <= row.rank) return "rows out of order";
    if (row.cls >= spec.class_count) return "a class that does not exist";
    if (row.w > 4 * 65535 || row.h > 4 * 65535) return "a box of more than four pictures";
    // The centre lies in the candidate's cell.
    const uint32_t gx = candidate % spec.grid_w, gy = candidate % cells / spec.grid_w;
    const int64_t dx = static_cast<int64_t>(row.cx) * spec.grid_w - static_cast<int64_t>(gx) * 65535;
    const int64_t dy = static_cast<int64_t>(row.cy) * spec.grid_h - static_cast<int64_t>(gy) * 65535;
    if (dx < -spec.grid_w || dx > 65535 + spec.grid_w || dy < -spec.grid_h || dy > 65535 + spec.grid_h) {
      return "a centre outside its cell";
    }
  }
  return nullptr;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const unsigned long wanted = strtoul(argv[1], nullptr, 10);
  state = strtoul(argv[2], nullptr, 10);
  const uhd::ModelInfo& model = uhd::model_info();
  if (uhd::check_decode(model) != uhd::Status::Ok) return 3;
  unsigned long all_candidates = 0, all_rows = 0;
  uint8_t* data[16];
  const void* outputs[16];
  for (int i = 0; i < model.output_count; i++) {
    outputs[i] = data[i] = static_cast<uint8_t*>(malloc(model.outputs[i].size()));
  }
  uint16_t top_k = 0;
  auto* rows = static_cast<uhd::Detection*>(malloc(1));
  const char* wrong = nullptr;
  for (unsigned long n = 0; n < wanted && !wrong; n++) {
    for (int i = 0; i < model.output_count; i++) fill(data[i], model.outputs[i].size());
    if (n % 64 == 0) {
      free(rows);
      top_k = static_cast<uint16_t>(below(8) == 0 ? below(3) : 1 + below(600));
      rows = static_cast<uhd::Detection*>(malloc(top_k ? top_k * sizeof(uhd::Detection) : 1));
    }
    // High thresholds mostly, as in use; sometimes everything passes.
    const uint32_t kind = below(16);
    const uhd::DecodeSettings settings = {
        static_cast<uint16_t>(kind == 0 ? 0 : kind == 1 ? 65535 : below(65536)),
        static_cast<uint16_t>(kind == 2 ? 0 : kind == 3 ? 65535 : below(65536)), top_k};
    uint32_t candidates = 0;
    size_t count = uhd::decode(model, outputs, settings, rows, &candidates);
    wrong = fault(model, settings, rows, count, candidates);
    const size_t before = count;
    count = uhd::suppress(rows, count, settings.nms_iou_q16);
    if (!wrong) wrong = fault(model, settings, rows, count, candidates);
    if (!wrong && (count > before || (before != 0 && count == 0))) wrong = "suppression that adds rows or keeps none";
    if (wrong) fprintf(stderr, "tensor %lu of seed %s: %s\n", n, argv[2], wrong);
    all_candidates += candidates;
    all_rows += count;
  }
  for (int i = 0; i < model.output_count; i++) free(data[i]);
  free(rows);
  printf("%lu tensors, %lu candidates, %lu rows\n", wanted, all_candidates, all_rows);
  return wrong ? 4 : 0;
}
