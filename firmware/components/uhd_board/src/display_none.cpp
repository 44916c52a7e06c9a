#include "uhd/display.hpp"

namespace uhd {

Display* display() { return nullptr; }

}  // namespace uhd
