#include "inference.hpp"

namespace uhd {

Inference open_inference(bool may_start) {
  Inference found = {&reference_backend(), nullptr, nullptr};
  if (may_start && found.backend->open(model_info(), &found.model, &found.why) != Status::Ok) found.model = nullptr;
  return found;
}

}  // namespace uhd
