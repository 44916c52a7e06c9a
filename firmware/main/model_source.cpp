#include "model_source.hpp"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "sdkconfig.h"
#include "uhd/package.hpp"
#if CONFIG_UHD_MODEL_PARTITION
#include "esp_partition.h"
#elif CONFIG_UHD_MODEL_SD
#include "esp_heap_caps.h"
#include "uhd/sdcard.hpp"
#endif

namespace uhd {

#if CONFIG_UHD_MODEL_PARTITION || CONFIG_UHD_MODEL_SD

namespace {

const ModelInfo* open_bytes(const uint8_t* data, size_t size, const char** why) {
  static PackageWorkspace workspace;
  const ModelInfo* model = nullptr;
  if (open_package(data, size, &workspace, &model, why) != Status::Ok) return nullptr;
  if (strcmp(model->target, model_info().target) != 0) {
    *why = "the package is for another chip";
    return nullptr;
  }
  return model;
}

}  // namespace

#endif

#if CONFIG_UHD_MODEL_PARTITION

const ModelInfo* find_model(const char** why) {
  const esp_partition_t* partition =
      esp_partition_find_first(ESP_PARTITION_TYPE_DATA, ESP_PARTITION_SUBTYPE_ANY, CONFIG_UHD_MODEL_PARTITION_LABEL);
  if (!partition) {
    *why = "no partition " CONFIG_UHD_MODEL_PARTITION_LABEL;
    return nullptr;
  }
  const void* data = nullptr;
  esp_partition_mmap_handle_t handle;  // never given back: the model is used in place
  if (esp_partition_mmap(partition, 0, partition->size, ESP_PARTITION_MMAP_DATA, &data, &handle) != ESP_OK) {
    *why = "the model's partition cannot be mapped";
    return nullptr;
  }
  return open_bytes(static_cast<const uint8_t*>(data), partition->size, why);
}

#elif CONFIG_UHD_MODEL_SD

namespace {

const ModelInfo* read_package(const char* path, const char** why) {
  FILE* file = fopen(path, "rb");
  if (!file) {
    *why = "no file " CONFIG_UHD_MODEL_SD_PATH;
    return nullptr;
  }
  long size = -1;
  if (fseek(file, 0, SEEK_END) == 0) size = ftell(file);
  uint8_t* memory = nullptr;
  *why = "the file of the model cannot be read";
  if (size > 0 && fseek(file, 0, SEEK_SET) == 0) {
    const size_t wanted = static_cast<size_t>(size);
    memory = static_cast<uint8_t*>(heap_caps_aligned_alloc(kPackageAlignment, wanted, MALLOC_CAP_SPIRAM));
    if (!memory) {
      *why = "the model does not fit PSRAM";
    } else if (fread(memory, 1, wanted, file) != wanted) {
      heap_caps_free(memory);
      memory = nullptr;
    }
  }
  fclose(file);
  const ModelInfo* model = memory ? open_bytes(memory, static_cast<size_t>(size), why) : nullptr;
  if (!model) heap_caps_free(memory);
  return model;
}

}  // namespace

const ModelInfo* find_model(const char** why) {
  if (mount_sdcard() != ESP_OK) {
    *why = "no SD card that can be read";
    return nullptr;
  }
  const ModelInfo* model = read_package(CONFIG_UHD_MODEL_SD_PATH, why);
  unmount_sdcard();
  return model;
}

#else

const ModelInfo* find_model(const char**) { return &model_info(); }

#endif

}  // namespace uhd
