#include "uhd/package.hpp"

#include <string.h>

#include "uhd/decode.hpp"
#include "uhd/sha256.hpp"

// A change of ModelInfo or of what tables mean needs another kPackageVersion, here and in uhd.codegen.package.
static_assert(uhd::kModelInterface == 1, "does the package format still say all of ModelInfo?");
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tables are used as they lie in the file");

namespace uhd {
namespace {

constexpr uint32_t kHeader = 64, kHashAt = 16, kHashedFrom = 48, kMaxSections = 32;
constexpr uint32_t kInfoHead = 64, kTensor = 16;
constexpr uint32_t kNone = 0xFFFFFFFF;
constexpr uint32_t kWidest = 4 * 65535;  // of box_wh, see DecodeSpec

constexpr uint32_t kind_of(char a, char b, char c, char d) {
  return static_cast<uint32_t>(a) | static_cast<uint32_t>(b) << 8 | static_cast<uint32_t>(c) << 16 |
         static_cast<uint32_t>(d) << 24;
}

struct Bytes {
  const uint8_t* data = nullptr;
  uint32_t size = 0;
};

// Takes little-endian fields one after the other. Beyond the end it gives zeros, and good() is false.
class Fields {
 public:
  explicit Fields(const Bytes& bytes) : at_(bytes.data), left_(bytes.size) {}

  const uint8_t* take(uint32_t count) {
    static constexpr uint8_t kNothing[64] = {};
    if (count > left_ || count > sizeof(kNothing)) {
      left_ = 0;
      good_ = false;
      return kNothing;
    }
    const uint8_t* taken = at_;
    at_ += count;
    left_ -= count;
    return taken;
  }
  uint8_t u8() { return *take(1); }
  int8_t i8() { return static_cast<int8_t>(u8()); }
  uint16_t u16() {
    const uint8_t* p = take(2);
    return static_cast<uint16_t>(p[0] | p[1] << 8);
  }
  uint32_t u32() {
    const uint8_t* p = take(4);
    return p[0] | static_cast<uint32_t>(p[1]) << 8 | static_cast<uint32_t>(p[2]) << 16 |
           static_cast<uint32_t>(p[3]) << 24;
  }
  bool good() const { return good_; }
  bool finished() const { return good_ && left_ == 0; }

 private:
  const uint8_t* at_;
  uint32_t left_;
  bool good_ = true;
};

class Opener {
 public:
  Opener(const uint8_t* data, PackageWorkspace* workspace) : data_(data), work_(*workspace) {}

  const char* why() const { return why_; }

  Status open(size_t size) {
    Fields head({data_, size < kHeader ? static_cast<uint32_t>(size) : kHeader});
    if (head.u32() != kind_of('U', 'H', 'D', 'M')) return fail(Status::NotFound, "there is no model package");
    const uint32_t version = head.u32(), total = head.u32();
    if (!head.good()) return fail(Status::Incomplete, "the package is cut off");
    if (version != kPackageVersion) return fail(Status::Unsupported, "a package of another format version");
    if (size < total) return fail(Status::Incomplete, "the package is cut off");
    if (total < kHeader || total % kPackageAlignment) return fail(Status::Corrupt, "the package's size is impossible");
    uint8_t digest[32];
    sha256(data_ + kHashedFrom, total - kHashedFrom, digest);
    if (memcmp(digest, data_ + kHashAt, sizeof(digest)) != 0) {
      return fail(Status::Corrupt, "the package does not have the SHA-256 it names");
    }
    Status status = find_sections(total);
    if (status == Status::Ok) status = read_info();
    if (status == Status::Ok && decode_.data) status = read_decode();
    return status;
  }

 private:
  Status fail(Status status, const char* why) {
    why_ = why;
    return status;
  }

  Status find_sections(uint32_t total) {
    Fields list({data_ + kHashedFrom, total - kHashedFrom});
    const uint32_t count = list.u32();
    list.take(kHeader - kHashedFrom - 4);
    if (count > kMaxSections) return fail(Status::Corrupt, "the package has too many sections");
    for (uint32_t i = 0; i < count; i++) {
      const uint32_t kind = list.u32(), offset = list.u32(), size = list.u32();
      list.u32();
      if (!list.good() || offset % kPackageAlignment || offset > total || size > total - offset || size == 0) {
        return fail(Status::Corrupt, "a section lies outside the package");
      }
      Bytes* place = section(kind);
      if (!place) continue;  // of a later writer, or for the host
      if (place->data) return fail(Status::Corrupt, "the package has a section twice");
      *place = {data_ + offset, size};
    }
    if (!info_.data || !text_.data || !tables_.data || !espdl_.data) {
      return fail(Status::Corrupt, "the package lacks a section");
    }
    if (text_.data[text_.size - 1] != 0) return fail(Status::Corrupt, "the package's texts have no end");
    return Status::Ok;
  }

  Bytes* section(uint32_t kind) {
    switch (kind) {
      case kind_of('I', 'N', 'F', 'O'): return &info_;
      case kind_of('D', 'E', 'C', 'O'): return &decode_;
      case kind_of('T', 'E', 'X', 'T'): return &text_;
      case kind_of('T', 'A', 'B', 'L'): return &tables_;
      case kind_of('E', 'S', 'P', 'D'): return &espdl_;
      default: return nullptr;
    }
  }

  // Every text ends inside the section, because the section ends with a zero.
  const char* text(uint32_t offset) const {
    return offset < text_.size ? reinterpret_cast<const char*>(text_.data + offset) : nullptr;
  }

  // `count` elements of a table, or null if they are not all inside the section.
  template <typename T>
  const T* table(uint32_t offset, uint32_t count) const {
    const uint32_t bytes = count * sizeof(T);
    if (offset % 4 || bytes > tables_.size || offset > tables_.size - bytes) return nullptr;
    return reinterpret_cast<const T*>(tables_.data + offset);
  }

  bool read_tensor(Fields* fields, TensorInfo* tensor) const {
    tensor->name = text(fields->u32());
    tensor->height = fields->u16();
    tensor->width = fields->u16();
    tensor->channels = fields->u16();
    tensor->bytes = fields->u8();
    tensor->exponent = fields->i8();
    tensor->arena_offset = fields->u32();
    if (!tensor->name || (tensor->bytes != 1 && tensor->bytes != 2)) return false;
    const uint64_t size = static_cast<uint64_t>(tensor->height) * tensor->width * tensor->channels * tensor->bytes;
    return size != 0 && tensor->arena_offset % tensor->bytes == 0 &&
           size + tensor->arena_offset <= work_.model.arena_size;
  }

  Status read_info() {
    ModelInfo& model = work_.model;
    Fields fields(info_);
    model.name = text(fields.u32());
    model.variant = text(fields.u32());
    model.target = text(fields.u32());
    model.arena_size = fields.u32();
    model.hash = fields.take(32);
    const uint32_t input_table = fields.u32();
    const uint16_t count = fields.u16();
    fields.take(10);
    if (!fields.good() || !model.name || !model.variant || !model.target || count == 0) {
      return fail(Status::Corrupt, "the model's description is broken");
    }
    if (count > kMaxPackageOutputs || model.arena_size > kMaxPackageArena) {
      return fail(Status::Unsupported, "the model has more outputs or activations than there is room for");
    }
    if (info_.size != kInfoHead + kTensor * (1u + count)) {
      return fail(Status::Corrupt, "the model's description is broken");
    }
    bool good = read_tensor(&fields, &model.input);
    for (uint16_t i = 0; i < count; i++) good = read_tensor(&fields, &work_.outputs[i]) && good;
    if (!good) return fail(Status::Corrupt, "a tensor does not fit the model's memory");
    model.outputs = work_.outputs;
    model.output_count = static_cast<uint8_t>(count);
    model.espdl = espdl_.data;
    model.espdl_size = espdl_.size;
    model.input_table = table<int16_t>(input_table, 256);
    if (!model.input_table) return fail(Status::Corrupt, "the input table lies outside the package");
    for (int i = 0; i < 256 && model.input.bytes == 1; i++) {
      if (model.input_table[i] < -128 || model.input_table[i] > 127) {
        return fail(Status::Corrupt, "the input table has values that the input cannot have");
      }
    }
    return Status::Ok;
  }

  // A reference to a table: offset and shift. False if it is neither absent nor complete.
  template <typename Table, typename T>
  bool read_table(Fields* fields, Table* into) const {
    const uint32_t offset = fields->u32(), shift = fields->u32();
    if (offset == kNone) return shift == 0;
    if (shift != 0 && shift != 6) return false;
    *into = {table<T>(offset, shift == 0 ? 256 : 1025), static_cast<uint8_t>(shift)};
    return into->values != nullptr;
  }

  Status read_decode() {
    DecodeSpec& spec = work_.decode;
    Fields fields(decode_);
    spec.anchor_count = fields.u16();
    spec.class_count = fields.u16();
    spec.grid_h = fields.u16();
    spec.grid_w = fields.u16();
    spec.top_k = fields.u16();
    spec.score_threshold_q16 = fields.u16();
    spec.nms_iou_q16 = fields.u16();
    fields.u16();
    int8_t* const maps[] = {&spec.box_output, &spec.obj_output, &spec.quality_output, &spec.cls_output};
    for (int8_t* output : maps) {
      *output = fields.i8();
      if (*output < -1 || *output >= static_cast<int>(work_.model.output_count)) {
        return fail(Status::Corrupt, "the decoder names an output that is not there");
      }
    }
    fields.u32();
    if (spec.anchor_count > kMaxPackageAnchors) {
      return fail(Status::Unsupported, "the model has more anchors than there is room for");
    }
    bool good = true;
    Table16* const factors[] = {&spec.box_xy, &spec.obj, &spec.quality, &spec.cls};
    for (Table16* factor : factors) {
      good = read_table<Table16, uint16_t>(&fields, factor) && good;
    }
    for (uint32_t i = 0; i < 2u * spec.anchor_count; i++) {
      good = read_table<Table32, uint32_t>(&fields, &work_.box_wh[i]) && good;
    }
    spec.box_wh = work_.box_wh;
    work_.model.decode = &spec;
    if (!good || !fields.finished() || check_decode(work_.model) != Status::Ok) {
      return fail(Status::Corrupt, "the decoder's tables do not fit the model's outputs");
    }
    return sizes_in_range() ? Status::Ok : fail(Status::Corrupt, "a table has boxes that are too wide");
  }

  // The decoder's arithmetic relies on it.
  bool sizes_in_range() const {
    for (uint32_t i = 0; i < 2u * work_.decode.anchor_count; i++) {
      const Table32& table = work_.box_wh[i];
      for (uint32_t k = 0; k < (table.shift == 0 ? 256u : 1025u); k++) {
        if (table.values[k] > kWidest) return false;
      }
    }
    return true;
  }

  const uint8_t* data_;
  PackageWorkspace& work_;
  const char* why_ = "";
  Bytes info_, decode_, text_, tables_, espdl_;
};

}  // namespace

Status open_package(const uint8_t* data, size_t size, PackageWorkspace* workspace, const ModelInfo** model,
                    const char** why) {
  const char* ignored;
  if (!why) why = &ignored;
  *why = "a null pointer, or memory that is not aligned to 16 bytes";
  if (model) *model = nullptr;
  if (!data || !workspace || !model || reinterpret_cast<uintptr_t>(data) % kPackageAlignment) {
    return Status::InvalidArgument;
  }
  memset(workspace, 0, sizeof(*workspace));
  Opener opener(data, workspace);
  const Status status = opener.open(size);
  *why = opener.why();
  if (status == Status::Ok) *model = &workspace->model;
  return status;
}

}  // namespace uhd
