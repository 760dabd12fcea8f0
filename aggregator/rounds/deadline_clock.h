#pragma once

#include <functional>
#include <optional>
#include <utility>

#include "tandem/aggregator/session/roster.h"

namespace tandem::aggregator {

/// The clock by which deadlines are set: in a pause it stands still. Not thread-safe.
class DeadlineClock {
 public:
  explicit DeadlineClock(std::function<TimePoint()> now) : now_(std::move(now)) {}

  TimePoint now() const { return paused_since_ ? *paused_since_ : now_(); }
  bool is_paused() const { return paused_since_.has_value(); }

  /// Requires !is_paused().
  void pause() { paused_since_ = now_(); }
  /// Ends the pause and returns how long it was: every deadline that was set before its end moves by that.
  TimePoint::duration go_on() { return now_() - *std::exchange(paused_since_, std::nullopt); }

 private:
  std::function<TimePoint()> now_;
  std::optional<TimePoint> paused_since_;
};

}  // namespace tandem::aggregator
