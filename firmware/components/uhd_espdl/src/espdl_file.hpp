// Figures of an .espdl file that the plan of memory needs, read from its FlatBuffer with every offset checked.
#pragma once

#include <stdint.h>

#include "uhd/status.hpp"

namespace uhd {
namespace espdl {

// The file's header. ESP-DL stops the chip over a wrong mode and reads past the end for a wrong length.
constexpr uint32_t kHeaderSize = 16;

struct Figures {
  uint32_t nodes;    // operators
  uint32_t weights;  // bytes of all constants, as ESP-DL would copy them: each in a block of its own, 16-aligned
};

// `file` is the whole .espdl, header included. Corrupt if it is not what the schema of ESP-DL says.
Status read_figures(const uint8_t* file, uint32_t size, Figures* figures);

}  // namespace espdl
}  // namespace uhd
