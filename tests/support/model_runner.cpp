// A program around a generated model, for sanitizers: reads inputs from a file and writes all outputs to another. Every
// buffer is a heap block of exactly the size that the interface promises, so that one byte too many is noticed.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "uhd/model.hpp"

namespace {

void* block(size_t size) {
  void* memory = nullptr;
  if (posix_memalign(&memory, uhd::kArenaAlignment, size ? size : 1) != 0) abort();
  memset(memory, 0xa5, size);
  return memory;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  FILE* in = fopen(argv[1], "rb");
  FILE* out = fopen(argv[2], "wb");
  if (!in || !out) return 3;
  const uhd::ModelInfo& model = uhd::model_info();
  uint8_t* arena = static_cast<uint8_t*>(block(model.arena_size));
  uint8_t* input = static_cast<uint8_t*>(block(model.input.size()));
  void* outputs[127];
  for (int i = 0; i < model.output_count; i++) outputs[i] = block(model.outputs[i].size());
  while (fread(input, 1, model.input.size(), in) == model.input.size()) {
    if (uhd::model_run(input, outputs, arena) != uhd::Status::Ok) return 4;
    for (int i = 0; i < model.output_count; i++) fwrite(outputs[i], 1, model.outputs[i].size(), out);
    // The same once more with everything inside the arena, as on a device.
    void* inside[127];
    for (int i = 0; i < model.output_count; i++) inside[i] = arena + model.outputs[i].arena_offset;
    memcpy(arena + model.input.arena_offset, input, model.input.size());
    if (uhd::model_run(arena + model.input.arena_offset, inside, arena) != uhd::Status::Ok) return 5;
    for (int i = 0; i < model.output_count; i++)
      if (memcmp(inside[i], outputs[i], model.outputs[i].size()) != 0) return 6;
  }
  if (uhd::model_run(nullptr, outputs, arena) != uhd::Status::InvalidArgument) return 7;
  if (uhd::model_run(input, outputs, arena + 1) != uhd::Status::InvalidArgument) return 8;
  for (int i = 0; i < model.output_count; i++) free(outputs[i]);
  free(input);
  free(arena);
  fclose(in);
  return fclose(out) == 0 ? 0 : 9;
}
