// What a call came to. Every function that can fail returns one of these; nothing throws.
#pragma once

#include <stdint.h>

namespace uhd {

enum class Status : uint8_t {
  Ok = 0,
  InvalidArgument = 1,  // a null pointer, or a size that no caller may pass
  BufferTooSmall = 2,   // the caller's buffer cannot hold the result
  Incomplete = 3,       // more input is needed
  Corrupt = 4,          // a checksum or a length does not fit
  Unsupported = 5,      // well formed, but this build cannot do it
  Busy = 6,             // try again later
  NotFound = 7,
};

// Short lower-case text of a status, for logs and ERROR messages.
constexpr const char* status_text(Status status) {
  switch (status) {
    case Status::Ok:
      return "ok";
    case Status::InvalidArgument:
      return "invalid argument";
    case Status::BufferTooSmall:
      return "buffer too small";
    case Status::Incomplete:
      return "incomplete";
    case Status::Corrupt:
      return "corrupt";
    case Status::Unsupported:
      return "unsupported";
    case Status::Busy:
      return "busy";
    case Status::NotFound:
      return "not found";
  }
  return "unknown status";
}

}  // namespace uhd
