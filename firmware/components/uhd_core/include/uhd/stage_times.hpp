// How long the last pictures took, stage by stage, in fixed memory: for STATS.
#pragma once

#include <stdint.h>

#include "uhd/link_messages.hpp"

namespace uhd {

class StageTimes {
 public:
  void add(const link::Timing& timing);
  // Fills timed_pictures and the minimum, median and maximum of each stage.
  void report(link::Stats* stats) const;

 private:
  static constexpr uint32_t kStages = 4;  // in the order of STATS

  uint32_t times_[kStages][link::kTimedPictures];
  uint8_t count_ = 0;  // pictures that are kept
  uint8_t next_ = 0;   // where the next one goes
};

}  // namespace uhd
