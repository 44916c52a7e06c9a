// For tests/core/test_package.py: opens packages, prints models, and as a program tries damaged ones.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "uhd/decode.hpp"
#include "uhd/package.hpp"
#include "uhd/sha256.hpp"

namespace {

struct Printer {
  char* out;
  size_t capacity;
  size_t length = 0;

  template <typename... Values>
  void add(const char* format, Values... values) {
    const size_t room = length < capacity ? capacity - length : 0;
    length += static_cast<size_t>(snprintf(room ? out + length : nullptr, room, format, values...));
  }
  void tensor(const char* what, const uhd::TensorInfo& t) {
    add("%s %s %d %d %d %d %d %lu\n", what, t.name, t.height, t.width, t.channels, t.bytes, t.exponent,
        static_cast<unsigned long>(t.arena_offset));
  }
  template <typename Table>
  void table(const char* what, const Table& table) {
    add("%s %d", what, table.shift);
    for (int i = 0; table.values && i < (table.shift ? 1025 : 256); i++) {
      add(" %ld", static_cast<long>(table.values[i]));
    }
    add("\n");
  }
};

void print_model(const uhd::ModelInfo& model, Printer* to) {
  to->add("name %s\nvariant %s\ntarget %s\n", model.name, model.variant, model.target);
  to->add("hash ");
  for (int i = 0; i < 32; i++) to->add("%02x", model.hash[i]);
  uint8_t digest[32];
  uhd::sha256(model.espdl, model.espdl_size, digest);
  to->add("\nespdl %lu aligned %d ", static_cast<unsigned long>(model.espdl_size),
          reinterpret_cast<uintptr_t>(model.espdl) % 16 == 0);
  for (int i = 0; i < 32; i++) to->add("%02x", digest[i]);
  to->add("\narena %lu\n", static_cast<unsigned long>(model.arena_size));
  to->tensor("input", model.input);
  for (int i = 0; i < model.output_count; i++) to->tensor("output", model.outputs[i]);
  to->add("input_table");
  for (int i = 0; i < 256; i++) to->add(" %d", model.input_table[i]);
  to->add("\n");
  const uhd::DecodeSpec* spec = model.decode;
  if (!spec) return;
  to->add("decode %d %d %d %d %d\n", spec->anchor_count, spec->class_count, spec->grid_h, spec->grid_w, spec->top_k);
  to->add("maps %d %d %d %d\n", spec->box_output, spec->obj_output, spec->quality_output, spec->cls_output);
  to->add("thresholds %d %d\n", spec->score_threshold_q16, spec->nms_iou_q16);
  to->table("box_xy", spec->box_xy);
  to->table("obj", spec->obj);
  to->table("quality", spec->quality);
  to->table("cls", spec->cls);
  for (int i = 0; i < 2 * spec->anchor_count; i++) to->table("box_wh", spec->box_wh[i]);
}

uint64_t state = 1;
volatile size_t used = 0;

uint32_t random_below(uint32_t end) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return static_cast<uint32_t>(state >> 16) % end;
}

void require(bool good, const char* what) {
  if (good) return;
  fprintf(stderr, "broken promise: %s\n", what);
  abort();
}

// An aligned block of exactly that size, so that a sanitizer sees one byte too many.
uint8_t* block(size_t size) {
  void* memory = nullptr;
  if (posix_memalign(&memory, 16, size ? size : 1) != 0) abort();
  return static_cast<uint8_t*>(memory);
}

template <typename Table>
unsigned touch(const Table& table) {
  unsigned sum = 0;
  for (int i = 0; table.values && i < (table.shift ? 1025 : 256); i++) sum += table.values[i];
  return sum;
}

// Uses everything that an accepted model offers.
size_t use(const uhd::ModelInfo& model) {
  size_t sum = strlen(model.name) + strlen(model.variant) + strlen(model.target) + model.hash[31];
  for (uint32_t i = 0; i < model.espdl_size; i++) sum += model.espdl[i];
  for (int i = 0; i < model.output_count; i++) sum += strlen(model.outputs[i].name);
  for (int i = 0; i < 256; i++) sum += static_cast<unsigned>(model.input_table[i]);
  if (const uhd::DecodeSpec* spec = model.decode) {
    sum += touch(spec->box_xy) + touch(spec->obj) + touch(spec->quality) + touch(spec->cls);
    for (int i = 0; i < 2 * spec->anchor_count; i++) sum += touch(spec->box_wh[i]);
  }
  if (!model.decode || model.arena_size > (1u << 18)) return sum;
  uint8_t* arena = block(model.arena_size);
  for (uint32_t i = 0; i < model.arena_size; i++) arena[i] = static_cast<uint8_t>(random_below(256));
  void* outputs[uhd::kMaxPackageOutputs];
  for (int i = 0; i < model.output_count; i++) outputs[i] = arena + model.outputs[i].arena_offset;
  static uhd::Detection rows[100];
  uint32_t candidates = 0;
  const size_t count = uhd::decode(model, outputs, {0, model.decode->nms_iou_q16, 100}, rows, &candidates);
  sum += uhd::suppress(rows, count, model.decode->nms_iou_q16);
  free(arena);
  return sum;
}

// Opens bytes that may be anything; returns the status.
int try_open(const uint8_t* bytes, size_t size) {
  static uhd::PackageWorkspace workspace;
  uint8_t* data = block(size);
  if (size) memcpy(data, bytes, size);
  const uhd::ModelInfo* model = &workspace.model;
  const char* why = nullptr;
  const uhd::Status status = uhd::open_package(data, size, &workspace, &model, &why);
  require(why != nullptr && (status == uhd::Status::Ok) == (*why == 0), "why is empty exactly when it is Ok");
  require((status == uhd::Status::Ok) == (model != nullptr), "there is a model exactly when it is Ok");
  if (model) used = use(*model);
  free(data);
  return static_cast<int>(status);
}

void put32(uint8_t* at, uint32_t value) { memcpy(at, &value, 4); }

// Makes the bytes whole again: size and hash.
void seal(uint8_t* data, uint32_t size) {
  if (size < 64) return;
  put32(data + 8, size);
  uhd::sha256(data + 48, size - 48, data + 16);
}

// Where to damage: mostly header, list of sections and descriptions, which come first.
uint32_t place(uint32_t size) {
  const uint32_t end = random_below(4) && size > 640 ? 640 : size;
  return random_below(end);
}

void mutate(uint8_t* data, uint32_t size) {
  static const uint32_t kValues[] = {0, 1, 2, 6, 16, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000,
                                     0x7FFFFFFF, 0x80000000, 0xFFFFFFF0, 0xFFFFFFFF};
  const uint32_t value = random_below(3) ? kValues[random_below(sizeof(kValues) / 4)] : size - random_below(64);
  const uint32_t at = place(size);
  switch (random_below(6)) {
    case 0: data[at] ^= static_cast<uint8_t>(1u << random_below(8)); break;
    case 1: data[at] = static_cast<uint8_t>(random_below(256)); break;
    case 2: data[at] = static_cast<uint8_t>(value); break;
    case 3:
      if ((at & ~1u) + 2 <= size) memcpy(data + (at & ~1u), &value, 2);
      break;
    case 4:
      if ((at & ~3u) + 4 <= size) put32(data + (at & ~3u), value);
      break;
    default: {
      const uint32_t from = place(size) & ~15u, to = at & ~15u;
      if (from + 16 <= size && to + 16 <= size) memmove(data + to, data + from, 16);
    }
  }
}

}  // namespace

extern "C" {

// Prints a ModelInfo; returns the length.
int32_t print_info(const void* model, char* out, size_t capacity) {
  Printer printer{out, capacity};
  print_model(*static_cast<const uhd::ModelInfo*>(model), &printer);
  return static_cast<int32_t>(printer.length);
}

// Opens a package and prints its model, or why there is none. Returns the status.
int32_t open_and_print(const uint8_t* data, size_t size, char* out, size_t capacity) {
  uhd::PackageWorkspace workspace;
  const uhd::ModelInfo* model = nullptr;
  const char* why = "";
  const uhd::Status status = uhd::open_package(data, size, &workspace, &model, &why);
  Printer printer{out, capacity};
  if (model) {
    print_model(*model, &printer);
  } else {
    printer.add("%s", why);
  }
  return static_cast<int32_t>(status);
}

// Null pointers wherever one can be. Returns the last status.
int32_t open_nothing(const uint8_t* data, size_t size) {
  uhd::PackageWorkspace workspace;
  const uhd::ModelInfo* model = nullptr;
  if (uhd::open_package(nullptr, size, &workspace, &model, nullptr) != uhd::Status::InvalidArgument) return -1;
  if (uhd::open_package(data, size, nullptr, &model, nullptr) != uhd::Status::InvalidArgument) return -2;
  if (uhd::open_package(data, size, &workspace, nullptr, nullptr) != uhd::Status::InvalidArgument) return -3;
  return static_cast<int32_t>(uhd::open_package(data, size, &workspace, &model, nullptr));
}

}  // extern "C"

// fuzz FILE SEED COUNT | cut FILE: prints how often each status came. blind FILE: reads a byte too many.
int main(int argc, char** argv) {
  if (argc < 3) return 2;
  FILE* file = fopen(argv[2], "rb");
  if (!file) return 2;
  static uint8_t original[1 << 21], data[1 << 21];
  const uint32_t size = static_cast<uint32_t>(fread(original, 1, sizeof(original), file));
  fclose(file);
  unsigned counts[8] = {};
  if (strcmp(argv[1], "blind") == 0) {
    used = block(size)[size];
  } else if (strcmp(argv[1], "cut") == 0) {
    for (uint32_t end = 0; end < size; end++) {
      require(try_open(original, end) != 0, "what is cut off is refused");
      if (end % 16) continue;  // of no size that a package can say it has
      memcpy(data, original, end);
      seal(data, end);
      counts[try_open(data, end)]++;
    }
  } else if (argc >= 5) {
    state = strtoull(argv[3], nullptr, 10) * 0x9E3779B97F4A7C15u + 1;
    for (unsigned long n = strtoul(argv[4], nullptr, 10); n; n--) {
      memcpy(data, original, size);
      uint32_t end = size;
      for (uint32_t i = 0, times = 1 + random_below(3); i < times; i++) mutate(data, size);
      if (random_below(16) == 0) end = random_below(size + 1) & ~15u;
      if (random_below(16) != 0) seal(data, end);
      counts[try_open(data, end)]++;
    }
  }
  for (unsigned count : counts) printf("%u ", count);
  return 0;
}
