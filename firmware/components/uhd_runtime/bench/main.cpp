// Counts the instructions of one inference on an emulated RISC-V machine (minstret under -icount shift=0).
// Prints "name value" lines through semihosting: total, then with UHD_TRACE one line a step, then the outputs'
// checksum.
#include <stdint.h>
#include <stdio.h>

#include "uhd/model.hpp"
#include "uhd_model_id.hpp"

namespace {

alignas(uhd::kArenaAlignment) uint8_t arena[uhd::model_id::kArenaSize];

uint32_t instructions() {
  uint32_t value;
  asm volatile("csrr %0, minstret" : "=r"(value));
  return value;
}

#if defined(UHD_TRACE)
constexpr uint32_t kMaxSteps = 4096;
uint32_t marks[kMaxSteps];
uint32_t marked = 0;
#endif

// The same bytes as uhd.device.runtime_bench.input_bytes: the numbers of a linear congruential generator.
void fill(uint8_t* to, uint32_t size) {
  uint32_t state = 1;
  for (uint32_t i = 0; i < size; i++) {
    state = state * 1664525u + 1013904223u;
    to[i] = static_cast<uint8_t>(state >> 24);
  }
}

}  // namespace

#if defined(UHD_TRACE)
extern "C" void uhd_trace_step(uint32_t step) {
  if (step < kMaxSteps) marks[marked = step] = instructions();
}
#endif

int main() {
  const uhd::ModelInfo& model = uhd::model_info();
  void* outputs[127];
  for (uint32_t i = 0; i < model.output_count; i++) outputs[i] = arena + model.outputs[i].arena_offset;
  uint8_t* const input = arena + model.input.arena_offset;
  fill(input, model.input.size());

  const uint32_t start = instructions();
  const uhd::Status status = uhd::model_run(input, outputs, arena);
  const uint32_t end = instructions();
  if (status != uhd::Status::Ok) return 1;
  printf("total %lu\n", static_cast<unsigned long>(end - start));
#if defined(UHD_TRACE)
  uint32_t before = start;
  for (uint32_t i = 0; i <= marked; i++) {
    printf("step %lu\n", static_cast<unsigned long>(marks[i] - before));
    before = marks[i];
  }
#endif
  uint32_t hash = 2166136261u;  // FNV-1a
  for (uint32_t i = 0; i < model.output_count; i++) {
    const uint8_t* bytes = static_cast<const uint8_t*>(outputs[i]);
    for (uint32_t k = 0; k < model.outputs[i].size(); k++) hash = (hash ^ bytes[k]) * 16777619u;
  }
  printf("checksum %lu\n", static_cast<unsigned long>(hash));
  return 0;
}
