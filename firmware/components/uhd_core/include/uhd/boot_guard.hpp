// Against restarting for ever: a record that survives a reset (but no loss of power) counts the restarts that went wrong.
#pragma once

#include <stdint.h>

#include "uhd/link_messages.hpp"

namespace uhd {

struct BootRecord {
  uint32_t magic;
  uint32_t failures;  // restarts in a row by a crash, a watchdog or a brown-out
  uint32_t check;
};

class BootGuard {
 public:
  static constexpr uint32_t kMagic = 0x55484442;  // "UHDB"
  static constexpr uint32_t kMostFailures = 3;
  // Running for so long ends a row of failures.
  static constexpr uint64_t kSettledUs = 30 * 1000000ull;

  // `record` may hold anything: memory is not initialised when power comes.
  BootGuard(BootRecord* record, link::ResetReason reason) : record_(record) {
    const bool known = record->magic == kMagic && record->check == ~record->failures;
    const bool failed = reason == link::ResetReason::kPanic || reason == link::ResetReason::kWatchdog ||
                        reason == link::ResetReason::kBrownOut;
    const uint32_t before = known && failed ? record->failures : 0;
    store(failed ? (before < kMostFailures ? before + 1 : before) : 0);
  }

  // False: it has failed kMostFailures times in a row, so what might be the cause stays off.
  bool may_start() const { return record_->failures < kMostFailures; }

  // Call now and then. Once the program has run for long enough, the failures before it are forgotten; not those that
  // keep parts of it off, or it would try again and fail again.
  void running(uint64_t micros_since_boot) {
    if (record_->failures && may_start() && micros_since_boot >= kSettledUs) store(0);
  }

 private:
  void store(uint32_t failures) {
    record_->magic = kMagic;
    record_->failures = failures;
    record_->check = ~failures;
  }

  BootRecord* record_;
};

}  // namespace uhd
