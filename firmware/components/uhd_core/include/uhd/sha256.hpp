// SHA-256 (FIPS 180-4), to check the embedded model at boot.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace uhd {

void sha256(const uint8_t* data, size_t size, uint8_t digest[32]);

}  // namespace uhd
