// One picture between two tasks: the camera's puts the newest there, the detector's takes it. No lock, no waiting.
#pragma once

#include <stdint.h>

#include "uhd/camera.hpp"

namespace uhd {

// Three places: one that the producer fills, one that the consumer looks at, and the one in the middle, which changes
// hands by one atomic exchange. One task may call put() and withdraw(), one other task take().
class NewestFrame {
 public:
  // Offers `frame`. True: `dropped` is an older one that nobody has taken, and is the producer's again.
  bool put(const CameraFrame& frame, CameraFrame* dropped) {
    places_[back_] = frame;
    return exchange_back(back_ | kFresh, dropped);
  }
  // Takes the offer back. True: there was one, now in `dropped`.
  bool withdraw(CameraFrame* dropped) { return exchange_back(back_, dropped); }

  bool take(CameraFrame* frame) {
    if (!(__atomic_load_n(&middle_, __ATOMIC_RELAXED) & kFresh)) return false;
    const uint32_t old = __atomic_exchange_n(&middle_, front_, __ATOMIC_ACQ_REL);
    front_ = old & kPlace;
    if (!(old & kFresh)) return false;  // it was withdrawn in between
    *frame = places_[front_];
    return true;
  }

 private:
  static constexpr uint32_t kPlace = 3, kFresh = 4;

  bool exchange_back(uint32_t offered, CameraFrame* dropped) {
    const uint32_t old = __atomic_exchange_n(&middle_, offered, __ATOMIC_ACQ_REL);
    back_ = old & kPlace;
    if (!(old & kFresh)) return false;
    *dropped = places_[back_];
    return true;
  }

  CameraFrame places_[3] = {};
  uint32_t back_ = 0;    // the producer's
  uint32_t middle_ = 1;  // nobody's; with kFresh: an offer
  uint32_t front_ = 2;   // the consumer's
};

}  // namespace uhd
