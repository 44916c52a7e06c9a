// A board without a camera: pictures come over the link.
#include "uhd/frame_source.hpp"

namespace uhd {

FrameSource* frame_source() { return nullptr; }

}  // namespace uhd
