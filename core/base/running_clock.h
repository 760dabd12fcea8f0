#pragma once

#include <chrono>

namespace tandem {

/// Adds up time without the gaps in which nobody could read it. Not thread-safe.
class RunningTime {
 public:
  using time_point = std::chrono::steady_clock::time_point;
  /// A longer gap between two readings is time in which nobody ran.
  static constexpr std::chrono::milliseconds kLongestGap{1000};

  explicit RunningTime(time_point reading) : last_reading_(reading), now_(reading) {}

  /// The time at a reading of the steady clock; readings do not go back.
  time_point at(time_point reading) {
    const auto gap = reading - last_reading_;
    if (gap <= kLongestGap) now_ += gap;
    last_reading_ = reading;
    return now_;
  }

 private:
  time_point last_reading_;
  time_point now_;
};

/// This process's RunningTime: it stands still while the process is stopped (SIGSTOP) or its machine is
/// frozen, so that no peer's silence and no deadline is counted in time in which nobody could listen. Some
/// thread of the process reads it at least every RunningTime::kLongestGap, or it stands still meanwhile. Any
/// thread.
struct RunningClock {
  static RunningTime::time_point now();
};

}  // namespace tandem
