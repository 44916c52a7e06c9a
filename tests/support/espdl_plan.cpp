// Runs what the ESP-DL backend decides without ESP-DL: one command a line of standard input, one answer a line.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

#include "espdl_plan.hpp"

using namespace uhd;

namespace {

// A block of exactly `size` bytes, `shift` bytes after a multiple of 16, so that the sanitizer sees every byte past it.
struct Exact {
  Exact(const std::string& bytes, size_t shift) {
    memory = static_cast<uint8_t*>(aligned_alloc(16, (bytes.size() + shift + 15) / 16 * 16 + 16));
    data = memory + shift;
    memcpy(data, bytes.data(), bytes.size());
    copy.assign(data, data + bytes.size());
  }
  ~Exact() { free(memory); }
  uint8_t* memory;
  uint8_t* data;
  std::vector<uint8_t> copy;
};

std::string unhex(const std::string& hex) {
  std::string bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  return bytes;
}

void answer(Status status, const char* why) {
  std::cout << int(status) << "|" << (status == Status::Ok ? "" : why) << "\n";
}

// model CHIP TARGET FILE SHIFT OUTPUTS HASH; FILE "-" is a null pointer. Answers nodes|weights|status|reason.
void check_model(std::istream& in) {
  std::string chip, target, path, hash;
  size_t shift;
  int outputs;
  in >> chip >> target >> path >> shift >> outputs >> hash;
  std::string bytes;
  if (path != "-") {
    std::ifstream file(path, std::ios::binary);
    bytes.assign(std::istreambuf_iterator<char>(file), {});
  }
  const std::string digest = unhex(hash);
  // malloc gives 16-byte alignment; without a shift the block ends where the file does.
  void* exact = malloc(bytes.size() ? bytes.size() : 1);
  Exact shifted(bytes, shift);
  memcpy(exact, bytes.data(), bytes.size());
  ModelInfo model = {};
  model.target = target.c_str();
  model.espdl = path == "-" ? nullptr : shift ? shifted.data : static_cast<uint8_t*>(exact);
  model.espdl_size = static_cast<uint32_t>(bytes.size());
  model.hash = reinterpret_cast<const uint8_t*>(digest.data());
  model.output_count = static_cast<uint8_t>(outputs);
  espdl::Reason why;
  espdl::Figures figures = {};
  const Status status = espdl::check_model(model, chip.c_str(), &figures, why);
  std::cout << figures.nodes << "|" << figures.weights << "|";
  answer(status, why);
  free(exact);
}

// plan ARENA FILE_SIZE NODES WEIGHTS PSRAM_BUILT_IN PSRAM_SIZE INT_FREE INT_LARGEST PS_FREE PS_LARGEST LIMIT COPY IN_PSRAM
void plan(std::istream& in) {
  ModelInfo model = {};
  espdl::Heap heap = {};
  espdl::Wishes wishes = {};
  espdl::Figures figures = {};
  in >> model.arena_size >> model.espdl_size >> figures.nodes >> figures.weights >> heap.psram_built_in >>
      heap.psram_size >> heap.internal_free >> heap.internal_largest >> heap.psram_free >> heap.psram_largest >>
      wishes.internal_limit >> wishes.copy_weights >> wishes.file_in_psram;
  espdl::Placement placement;
  espdl::Reason why;
  const Status status = espdl::plan(model, figures, heap, wishes, &placement, why);
  std::cout << placement.internal_activations << "|" << int(placement.weights) << "|";
  answer(status, why);
}

// tensor NAME H W C BYTES EXPONENT  EXISTS DATA INTEGER_BYTES PER_CHANNEL EXPONENT BYTES RANK DIMENSION...
void tensor(std::istream& in) {
  std::string name;
  TensorInfo expected = {};
  espdl::Found found = {};
  int bytes, exponent, integer_bytes;
  bool data;
  in >> name >> expected.height >> expected.width >> expected.channels >> bytes >> exponent;
  expected.name = name.c_str();
  expected.bytes = static_cast<uint8_t>(bytes);
  expected.exponent = static_cast<int8_t>(exponent);
  in >> found.exists >> data >> integer_bytes >> found.per_channel >> found.exponent >> found.bytes >> found.rank;
  std::vector<int> shape(found.rank);
  for (int& dimension : shape) in >> dimension;
  found.data = data ? &found : nullptr;
  found.shape = shape.data();
  found.integer_bytes = static_cast<uint8_t>(integer_bytes);
  espdl::Reason why;
  answer(espdl::check_tensor(expected, found, "output", why), why);
}

// border COUNT then H W C BYTES of the input and of every output: the arena, the input's place, those of the outputs
void border(std::istream& in) {
  int count;
  in >> count;
  std::vector<TensorInfo> tensors(static_cast<size_t>(count) + 1);
  for (TensorInfo& t : tensors) {
    int bytes;
    in >> t.height >> t.width >> t.channels >> bytes;
    t.bytes = static_cast<uint8_t>(bytes);
    t.arena_offset = 12345;
  }
  ModelInfo model = {};
  model.input = tensors[0];
  model.outputs = tensors.data() + 1;
  model.output_count = static_cast<uint8_t>(count);
  espdl::Border result = {};
  espdl::make_border(model, &result);
  std::cout << result.model.arena_size << " " << result.model.input.arena_offset;
  for (int i = 0; i < count; ++i) std::cout << " " << result.model.outputs[i].arena_offset;
  std::cout << "\n";
}

// run INPUT OUTPUTS EACH_OUTPUT ARENA_SHIFT; -1 for a null arena
void run(std::istream& in) {
  bool input, outputs, each;
  int shift;
  in >> input >> outputs >> each >> shift;
  alignas(16) static uint8_t memory[64];
  void* list[2] = {memory, each ? memory : nullptr};
  ModelInfo model = {};
  model.output_count = 2;
  const uint8_t* arena = shift < 0 ? nullptr : memory + shift;
  answer(espdl::check_run(model, input ? memory : nullptr, outputs ? list : nullptr, arena), "");
}

}  // namespace

int main() {
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream in(line);
    std::string command;
    in >> command;
    if (command == "model") check_model(in);
    if (command == "plan") plan(in);
    if (command == "tensor") tensor(in);
    if (command == "border") border(in);
    if (command == "run") run(in);
    std::cout.flush();
  }
}
