// Opening a model package (docs/model-package.md): a file in flash or memory that takes the place of the generated
// model description, its tables and the .espdl. The graph of the reference backend is compiled code, so a package
// needs a backend that runs any .espdl.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "uhd/model.hpp"
#include "uhd/status.hpp"

namespace uhd {

constexpr uint32_t kPackageVersion = 1;
constexpr size_t kPackageAlignment = 16;
constexpr size_t kMaxPackageOutputs = 16;
constexpr size_t kMaxPackageAnchors = 64;
constexpr uint32_t kMaxPackageArena = 1u << 26;

// What cannot lie in the file because it holds pointers. About 1.6 KB on a chip: not for a small stack.
struct PackageWorkspace {
  ModelInfo model;
  DecodeSpec decode;
  TensorInfo outputs[kMaxPackageOutputs];
  Table32 box_wh[2 * kMaxPackageAnchors];
};

// Checks the package at `data` and describes its model. The bytes may be anything: nothing outside [data, data + size)
// is read, and a model that is accepted lies within its own bounds: tables complete and in range, tensors inside the
// arena, decode() safe. What is not checked is whose chip it is for (model->target) and that backends like the .espdl.
//
//   data       aligned to kPackageAlignment; flash that is mapped, or memory. Used in place
//   size       bytes there: of the file, or of a partition that may be larger than it
//   workspace  filled in; it and `data` must stay as they are while the model is in use
//   model      the description, inside the workspace; null unless Ok
//   why        a short text that names what is wrong; "" if Ok. Lives for ever
//
// NotFound: there is no package (an erased partition). Incomplete: it goes on beyond `size`. Unsupported: of another
// version, or more than the workspace holds. Corrupt: the hash, an offset or a value is wrong. InvalidArgument: a null
// pointer or bad alignment.
Status open_package(const uint8_t* data, size_t size, PackageWorkspace* workspace, const ModelInfo** model,
                    const char** why);

}  // namespace uhd
