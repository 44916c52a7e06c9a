#include "uhd/button.hpp"

namespace uhd {

bool button_pressed() { return false; }

}  // namespace uhd
