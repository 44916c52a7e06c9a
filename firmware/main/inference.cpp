#include "inference.hpp"

#include "esp_log.h"
#include "model_source.hpp"
#include "sdkconfig.h"
#if CONFIG_UHD_BACKEND_ESPDL
#include "uhd/espdl_backend.hpp"
#endif

namespace uhd {
namespace {

const Backend& chosen_backend() {
#if CONFIG_UHD_BACKEND_ESPDL
  return espdl_backend();
#else
  return reference_backend();
#endif
}

// What the settings want to be told about the opened model, and whether it may be used.
bool inspected(const char** why) {
#if CONFIG_UHD_SELF_TEST
  if (espdl_self_test(why) != Status::Ok) return false;
  ESP_LOGI("uhd", "self-test passed");
#endif
#if CONFIG_UHD_LOG_PROFILE
  espdl_log_profile();
#endif
  static_cast<void>(why);
  return true;
}

}  // namespace

Inference open_inference(bool may_start) {
  Inference found = {&chosen_backend(), nullptr, nullptr};
  if (!may_start) return found;
  const ModelInfo* model = find_model(&found.why);
  if (!model) return found;
  if (found.backend->open(*model, &found.model, &found.why) != Status::Ok || !inspected(&found.why)) {
    found.model = nullptr;
  }
  return found;
}

}  // namespace uhd
