#include "uhd/stage_times.hpp"

#include <stddef.h>
#include <string.h>

namespace uhd {

using link::kTimedPictures;
using link::Stats;

void StageTimes::add(const link::Timing& timing) {
  const uint32_t stages[] = {timing.preprocess_us, timing.inference_us, timing.decode_us,
                             timing.preprocess_us + timing.inference_us + timing.decode_us};
  static_assert(sizeof(stages) / sizeof(stages[0]) == kStages, "one row for each");
  for (uint32_t stage = 0; stage < kStages; stage++) times_[stage][next_] = stages[stage];
  next_ = static_cast<uint8_t>((next_ + 1u) % kTimedPictures);
  if (count_ < kTimedPictures) count_++;
}

void StageTimes::report(Stats* stats) const {
  // Three figures a stage, one stage after the other, so that one loop can write them.
  constexpr size_t kFirst = offsetof(Stats, preprocess_min_us);
  static_assert(offsetof(Stats, total_max_us) == kFirst + (3 * kStages - 1) * sizeof(uint32_t), "in a row");
  uint8_t* out = reinterpret_cast<uint8_t*>(stats) + kFirst;
  stats->timed_pictures = count_;
  if (count_ == 0) return;
  for (const auto& times : times_) {
    uint32_t sorted[kTimedPictures];
    for (uint32_t i = 0; i < count_; i++) {
      uint32_t at = i;
      for (; at > 0 && sorted[at - 1] > times[i]; at--) sorted[at] = sorted[at - 1];
      sorted[at] = times[i];
    }
    const uint32_t figures[3] = {sorted[0], sorted[(count_ - 1) / 2], sorted[count_ - 1]};
    memcpy(out, figures, sizeof(figures));
    out += sizeof(figures);
  }
}

}  // namespace uhd
