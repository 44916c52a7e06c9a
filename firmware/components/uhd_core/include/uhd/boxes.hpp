// The one place where a detection becomes what the link carries, for the device and for the host's twin of it.
#pragma once

#include <stdint.h>

#include "uhd/decode.hpp"
#include "uhd/link_messages.hpp"

namespace uhd {

// A side in 1/65535 of the picture in the link's 1/16384, to nearest; 65535 stands for all that is longer.
inline uint16_t side_on_link(uint32_t q16) {
  const uint32_t side = (q16 + 2) >> 2;
  return static_cast<uint16_t>(side < 0xFFFF ? side : 0xFFFF);
}

// Everything of a detection but its class.
inline link::Box to_box(const Detection& found) {
  link::Box box;
  box.cx = found.cx;
  box.cy = found.cy;
  box.width = side_on_link(found.w);
  box.height = side_on_link(found.h);
  box.score = found.score;
  return box;
}

}  // namespace uhd
