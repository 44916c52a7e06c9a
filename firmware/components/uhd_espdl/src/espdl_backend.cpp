// The one file that knows ESP-DL. Decisions are in espdl_plan.cpp, where tests reach them.
#include "uhd/espdl_backend.hpp"

#include <inttypes.h>
#include <string.h>

#include <new>

#include "dl_model_base.hpp"
#include "esp_heap_caps.h"
#include "esp_log.h"
#include "espdl_plan.hpp"
#include "sdkconfig.h"

namespace uhd {
namespace {

constexpr char kTag[] = "espdl";

// Not in the heap; ESP-DL's own parts are. Built by open(), taken down by close().
alignas(dl::Model) uint8_t model_memory[sizeof(dl::Model)];

struct State {
  dl::Model* model = nullptr;
  uint8_t* file_copy = nullptr;  // in PSRAM
  dl::TensorBase* input = nullptr;
  dl::TensorBase* outputs[espdl::kMaxOutputs] = {};
  espdl::Border border = {};
  espdl::Reason why = {};
};
State state;

#if CONFIG_UHD_ESPDL_MULTI_CORE
constexpr dl::runtime_mode_t kMode = dl::RUNTIME_MODE_MULTI_CORE;
#else
constexpr dl::runtime_mode_t kMode = dl::RUNTIME_MODE_SINGLE_CORE;
#endif

// As dl::tool::malloc_aligned asks for it.
constexpr uint32_t kInternal = MALLOC_CAP_INTERNAL | MALLOC_CAP_8BIT | MALLOC_CAP_SIMD;
constexpr uint32_t kPsram = MALLOC_CAP_SPIRAM | MALLOC_CAP_8BIT | MALLOC_CAP_SIMD;

uint32_t clamped(size_t size) { return size < UINT32_MAX ? static_cast<uint32_t>(size) : UINT32_MAX; }

espdl::Heap measure_heap() {
  espdl::Heap heap = {};
#if CONFIG_SPIRAM
  heap.psram_built_in = true;
#endif
  heap.psram_size = clamped(heap_caps_get_total_size(kPsram));
  heap.internal_free = clamped(heap_caps_get_free_size(kInternal));
  heap.internal_largest = clamped(heap_caps_get_largest_free_block(kInternal));
  heap.psram_free = clamped(heap_caps_get_free_size(kPsram));
  heap.psram_largest = clamped(heap_caps_get_largest_free_block(kPsram));
  return heap;
}

espdl::Found describe(dl::TensorBase* tensor) {
  espdl::Found found = {};
  if (!tensor) return found;
  found.exists = true;
  found.data = tensor->data;
  found.shape = tensor->shape.data();
  found.rank = tensor->shape.size();
  found.integer_bytes = tensor->dtype == dl::DATA_TYPE_INT8 ? 1 : tensor->dtype == dl::DATA_TYPE_INT16 ? 2 : 0;
  found.per_channel = tensor->exponent.is_per_channel();
  found.exponent = found.per_channel ? 0 : static_cast<int>(tensor->exponent);
  found.bytes = static_cast<size_t>(tensor->get_bytes());
  return found;
}

void close() {
  if (state.model) state.model->~Model();
  heap_caps_free(state.file_copy);
  state.model = nullptr;
  state.file_copy = nullptr;
}

// Finds the tensors by name in what ESP-DL has built, and compares them with the manifest's.
Status adopt(const ModelInfo& model) {
  // A file that ESP-DL cannot use, or memory that ran out, leaves a model without tensors behind.
  auto& inputs = state.model->get_inputs();
  auto& outputs = state.model->get_outputs();
  if (inputs.size() != 1 || outputs.size() != model.output_count) {
    strcpy(state.why, inputs.empty() ? "ESP-DL does not load the model, see its log"
                                     : "other inputs or outputs than the manifest says");
    return Status::Corrupt;
  }
  const auto input = inputs.find(model.input.name);
  state.input = input == inputs.end() ? nullptr : input->second;
  Status status = espdl::check_tensor(model.input, describe(state.input), "input", state.why);
  for (uint32_t i = 0; status == Status::Ok && i < model.output_count; ++i) {
    const auto output = outputs.find(model.outputs[i].name);
    state.outputs[i] = output == outputs.end() ? nullptr : output->second;
    status = espdl::check_tensor(model.outputs[i], describe(state.outputs[i]), "output", state.why);
  }
  return status;
}

Status build(const ModelInfo& model, const espdl::Placement& placement) {
  const uint8_t* file = model.espdl;
  if (placement.weights == espdl::WeightPlace::kPsram) {
    state.file_copy = static_cast<uint8_t*>(heap_caps_aligned_alloc(kArenaAlignment, model.espdl_size, kPsram));
    if (!state.file_copy) {
      strcpy(state.why, "no room for the weights in PSRAM");
      return Status::BufferTooSmall;
    }
    memcpy(state.file_copy, file, model.espdl_size);
    file = state.file_copy;
  }
  // "RODATA" is any address. ESP-DL warns of CONFIG_SPIRAM_RODATA when it lies in PSRAM; that is meant here.
  state.model = new (model_memory)
      dl::Model(reinterpret_cast<const char*>(file), fbs::MODEL_LOCATION_IN_FLASH_RODATA,
                static_cast<int>(placement.internal_activations), dl::MEMORY_MANAGER_GREEDY, nullptr,
                placement.weights == espdl::WeightPlace::kInternal);
  return adopt(model);
}

Status open(const ModelInfo& model, const ModelInfo** used, const char** why) {
  close();
  *why = state.why;
  espdl::Figures figures;
  Status status = espdl::check_model(model, CONFIG_IDF_TARGET, &figures, state.why);
  if (status != Status::Ok) return status;

  espdl::Wishes wishes = {};
  wishes.internal_limit = CONFIG_UHD_ESPDL_INTERNAL_BYTES;
#if CONFIG_UHD_ESPDL_PARAM_COPY
  wishes.copy_weights = true;
#endif
  // The question that ESP-DL's loader asks before it copies weights.
  wishes.file_in_psram = dl::tool::memory_addr_type(const_cast<uint8_t*>(model.espdl)) == dl::MEMORY_ADDR_PSRAM;
  espdl::Placement placement;
  status = espdl::plan(model, figures, measure_heap(), wishes, &placement, state.why);
  if (status == Status::Ok) status = build(model, placement);
  if (status != Status::Ok) {
    close();
    return status;
  }

  static const char* const kPlaces[] = {"in place", "in internal memory", "in PSRAM"};
  ESP_LOGI(kTag, "activations: up to %" PRIu32 " bytes of internal memory; weights %s",
           placement.internal_activations, kPlaces[static_cast<int>(placement.weights)]);
  memset(state.input->data, 0, model.input.size());
  state.model->run(kMode);
  espdl::make_border(model, &state.border);
  *used = &state.border.model;
  return Status::Ok;
}

Status run(const void* input, void* const* outputs, uint8_t* arena) {
  if (!state.model) return Status::InvalidArgument;
  const ModelInfo& model = state.border.model;
  const Status status = espdl::check_run(model, input, outputs, arena);
  if (status != Status::Ok) return status;
  // In every run: later tensors lie where the input was.
  memcpy(state.input->data, input, model.input.size());
  state.model->run(kMode);
  for (uint32_t i = 0; i < model.output_count; ++i) {
    memcpy(outputs[i], state.outputs[i]->data, model.outputs[i].size());
  }
  return Status::Ok;
}

}  // namespace

const Backend& espdl_backend() {
  static constexpr Backend kBackend = {"esp-dl", open, run};
  return kBackend;
}

Status espdl_self_test(const char** why) {
  if (!state.model) {
    *why = "no model is open";
    return Status::InvalidArgument;
  }
  if (state.model->test() == ESP_OK) return Status::Ok;
  *why = "ESP-DL's test of the model fails, see its log";
  return Status::Corrupt;
}

Status espdl_memory(EspdlMemory* memory) {
  if (!state.model || !memory) return Status::InvalidArgument;
  auto info = state.model->get_memory_info();
  const auto& total = info["total"];
  const auto& activations = info["variable"];
  const auto& weights = info["parameter_copy"];
  memory->internal = clamped(total.internal);
  memory->psram = clamped(total.psram);
  memory->flash = clamped(total.flash);
  memory->activations_internal = clamped(activations.internal);
  memory->activations_psram = clamped(activations.psram);
  memory->weights_internal = clamped(weights.internal);
  memory->weights_psram = clamped(weights.psram);
  return Status::Ok;
}

Status espdl_log_profile() {
  if (!state.model) return Status::InvalidArgument;
  state.model->profile();
  return Status::Ok;
}

}  // namespace uhd
