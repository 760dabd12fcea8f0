#pragma once

#include <chrono>
#include <stdexcept>
#include <string>
#include <utility>

#include "tandem/core/transport/transport.h"

/// Not installed; for core/transport and its tests.
namespace tandem::transport_detail {

/// Says when a connection's keepalive is to be sent. No socket and no clock. Not thread-safe.
class KeepaliveTimer {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  /// std::invalid_argument for an interval below 1 ms.
  explicit KeepaliveTimer(Keepalive keepalive) : keepalive_(std::move(keepalive)) {
    if (keepalive_.interval < std::chrono::milliseconds(1))
      throw std::invalid_argument("Keepalive.interval must be >= 1 ms, got " +
                                  std::to_string(keepalive_.interval.count()));
  }

  /// A connection begins at `now`: the first keepalive is due after an interval.
  void restart(TimePoint now) { next_ = now + keepalive_.interval; }
  /// When to ask again; TimePoint::max() where there is no keepalive.
  TimePoint next_due() const { return keepalive_.message.empty() ? TimePoint::max() : next_; }
  /// Whether to send message() at `now`. The next one is due an interval later, whether or not this one was
  /// left out because so much `is_sending` already.
  bool take(TimePoint now, bool is_sending) {
    if (now < next_due()) return false;
    next_ = now + keepalive_.interval;
    return !is_sending;
  }
  const wire::Frames& message() const { return keepalive_.message; }

 private:
  Keepalive keepalive_;
  TimePoint next_{};
};

}  // namespace tandem::transport_detail
