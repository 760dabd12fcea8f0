#pragma once

#include <chrono>
#include <mutex>
#include <string>
#include <utility>

/// Not installed; for ZmqClient and its tests.
namespace tandem::transport_detail {

/// What somebody is doing and since when, for a person. Any thread.
class Activity {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  /// From `now` on it is `what`; empty for nothing that is worth a word.
  void begin(std::string what, TimePoint now) {
    const std::lock_guard lock(mutex_);
    what_ = std::move(what);
    since_ = now;
  }

  /// Such as "looking up "HOST" for 12 s"; without the time in the first second; empty for nothing.
  std::string text(TimePoint now) const {
    const std::lock_guard lock(mutex_);
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(now - since_).count();
    if (what_.empty() || seconds == 0) return what_;
    return what_ + " for " + std::to_string(seconds) + " s";
  }

 private:
  mutable std::mutex mutex_;
  std::string what_;   // guarded by mutex_
  TimePoint since_{};  // guarded by mutex_
};

}  // namespace tandem::transport_detail
