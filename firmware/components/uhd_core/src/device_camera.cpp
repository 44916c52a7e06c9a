#include "uhd/device.hpp"

// The device's own camera.

namespace uhd {

using link::ErrorCode;

void FrameRate::count(uint64_t now) {
  constexpr uint32_t kSecond = 1000000;
  const bool paused = now - last_ > 2 * kSecond;
  // Without a pause there was one less than two seconds ago, so that these are less than three.
  const uint32_t spent = static_cast<uint32_t>(now - began_);
  if (pictures_ == 0 || paused) {  // the first one, or the first one after a pause: nothing to compare
    began_ = now;
    pictures_ = 1;
  } else if (pictures_++, spent >= kSecond) {
    // From one picture to the last are one interval less than pictures. In milliseconds the product fits 32 bits.
    const uint32_t x10 = (pictures_ - 1) * (10 * kSecond / 1000) / (spent / 1000);
    x10_ = static_cast<uint16_t>(x10 < 0xFFFF ? x10 : 0xFFFF);
    began_ = now;
    pictures_ = 1;
  }
  last_ = now;
}

uint16_t FrameRate::x10(uint64_t now) const { return now - last_ > 2000000 ? 0 : x10_; }

bool Device::camera_may_run() {
  if (!camera_ || health_ != link::Health::kOk) return false;
  if (host_pictures_ && port_.micros() - last_frame_us_ < uint64_t{1000} * link::kHostPauseMs) return false;
  host_pictures_ = false;
  forget_picture();  // its results live where those of the camera's pictures go
  return true;
}

bool Device::fits(const CameraFrame& frame) const {
  return model_.input.channels == 2 && model_.input.width % 2 == 0 && frame.data &&
         check_camera(frame.picture, frame.size) == Status::Ok;
}

bool Device::watch() {
  CameraFrame frame;
  if (!camera_may_run() || camera_->take(&frame) != Status::Ok) return false;
  if (!fits(frame)) {
    camera_->give_back(frame);
    fault(ErrorCode::kCameraFormat);
    return true;
  }
  mended(ErrorCode::kCameraFormat);
  seen_ = frame;
  Picture picture;
  picture.flags = config_.flags;
  link::Detections& result = picture.result;
  link::Timing& timing = picture.timing;
  result.flags = static_cast<uint8_t>(link::DetectionFlags::kCamera);
  timing.timestamp_us = frame.captured_us;
  const uint64_t began_us = port_.micros();
  timing.receive_us = static_cast<uint32_t>(began_us - frame.captured_us);
  camera_picture(frame.picture, frame.format, model_.input.width, model_.input.height, frame.data, sink_);
  const uint64_t complete_us = port_.micros();
  timing.preprocess_us = static_cast<uint32_t>(complete_us - began_us);
  if (!viewer_) camera_->give_back(frame);  // the camera may write into it while the model runs
  const Status status = run_model(&picture, complete_us);
  if (status == Status::Ok) {
    rate_.count(port_.micros());
    result.frame_id = link::kCameraFrames | ++camera_inferences_;
  } else {
    send_error(nullptr, ErrorCode::kModelFailed, 0, status_text(status));
  }
  const uint16_t fps = rate_.x10(port_.micros());
  if (viewer_ && !viewer_->show(frame, rows_, result.count, fps, config_.score_threshold)) camera_->give_back(frame);
  const bool streams = session_ && has_flag(link::ConfigFlags::kStream);
  if (streams && status == Status::Ok && camera_inferences_ % config_.results_every == 0) {
    picture.thumbnail = thumbnail_due(camera_inferences_ / config_.results_every);
    send_results(picture);
  }
  return true;
}

}  // namespace uhd
