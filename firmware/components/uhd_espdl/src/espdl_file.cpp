#include "espdl_file.hpp"

namespace uhd {
namespace espdl {
namespace {

// Fields by their number in espdl.fbs.
constexpr uint32_t kModelGraph = 7;
constexpr uint32_t kGraphNode = 0;
constexpr uint32_t kGraphInitializer = 2;
constexpr uint32_t kTensorRawData = 8;
constexpr uint32_t kBlock = 16;  // struct AlignedBytes

struct Buffer {
  const uint8_t* data;
  uint32_t size;

  bool has(uint64_t at, uint64_t count) const { return at <= size && count <= size - at; }
  uint32_t u16(uint32_t at) const { return data[at] | uint32_t{data[at + 1]} << 8; }
  uint32_t u32(uint32_t at) const { return u16(at) | u16(at + 2) << 16; }

  // The place that an offset stored at `at` points to.
  bool follow(uint32_t at, uint32_t* target) const {
    if (!has(at, 4)) return false;
    const uint64_t there = uint64_t{at} + u32(at);
    *target = static_cast<uint32_t>(there);
    return has(there, 4);
  }

  // The vector in a field of a table: its elements, or none if the table does not have the field.
  bool vector(uint32_t table, uint32_t field, uint32_t element, uint32_t* first, uint32_t* count) const {
    uint32_t at = 0;
    *first = *count = 0;
    if (!find(table, field, &at)) return false;
    if (at == 0) return true;
    if (!follow(at, first)) return false;
    *count = u32(*first);
    *first += 4;
    return has(*first, uint64_t{*count} * element);
  }

  // Where a field of a table is, 0 if it is absent.
  bool find(uint32_t table, uint32_t field, uint32_t* at) const {
    if (!has(table, 4)) return false;
    const int64_t fields = int64_t{table} - static_cast<int32_t>(u32(table));
    if (fields < 0 || !has(static_cast<uint64_t>(fields), 4)) return false;
    const uint32_t slots = static_cast<uint32_t>(fields);
    const uint32_t slot = 4 + 2 * field;
    if (!has(slots, u16(slots))) return false;
    const uint32_t offset = slot + 2 <= u16(slots) ? u16(slots + slot) : 0;
    *at = offset ? table + offset : 0;
    return offset == 0 || has(*at, 4);
  }
};

}  // namespace

Status read_figures(const uint8_t* file, uint32_t size, Figures* figures) {
  *figures = {0, 0};
  if (size < kHeaderSize) return Status::Corrupt;
  const Buffer buffer = {file + kHeaderSize, size - kHeaderSize};
  uint32_t model = 0, at = 0, graph = 0, first = 0, count = 0;
  if (!buffer.follow(0, &model)) return Status::Corrupt;
  if (!buffer.find(model, kModelGraph, &at) || at == 0 || !buffer.follow(at, &graph)) return Status::Corrupt;
  if (!buffer.vector(graph, kGraphNode, 4, &first, &count) || count == 0) return Status::Corrupt;
  figures->nodes = count;
  if (!buffer.vector(graph, kGraphInitializer, 4, &first, &count)) return Status::Corrupt;
  uint64_t weights = 0;
  for (uint32_t i = 0; i < count; ++i) {
    uint32_t tensor = 0, data = 0, blocks = 0;
    if (!buffer.follow(first + 4 * i, &tensor)) return Status::Corrupt;
    if (!buffer.vector(tensor, kTensorRawData, kBlock, &data, &blocks)) return Status::Corrupt;
    weights += uint64_t{blocks} * kBlock;
  }
  if (weights > buffer.size) return Status::Corrupt;  // two tensors with the same bytes
  figures->weights = static_cast<uint32_t>(weights);
  return Status::Ok;
}

}  // namespace espdl
}  // namespace uhd
