#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <optional>

#include "tandem/core/transport/slowest_link.h"

/// Not installed; for core/transport and its tests.
namespace tandem::transport_detail {

using LinkTime = std::chrono::steady_clock::time_point;

/// Tells a transfer from heartbeats by the bytes that were counted in one direction of a connection. No
/// socket and no clock. Not thread-safe.
class TransferMeter {
 public:
  /// A shorter time says nothing about a rate.
  static constexpr std::chrono::milliseconds kInterval{250};
  /// A longer time between two looks counts as this much.
  static constexpr std::chrono::milliseconds kLongest{1000};

  /// Counting begins: `bytes` were there before.
  void begin(LinkTime now, int64_t bytes);
  /// So many bytes by now. Returns for how long a transfer was going on since the last time that it returned
  /// anything; nothing before kInterval has passed.
  std::optional<std::chrono::milliseconds> look(LinkTime now, int64_t bytes);

 private:
  LinkTime since_{};
  int64_t bytes_ = 0;
};

/// Which messages have left this machine: the payload of those that were handed to the socket, in their
/// order, against the bytes that the peer's machine has acknowledged. What transport adds is not counted, so
/// that a message counts as gone a few bytes early and never stays behind. Not thread-safe.
class DepartureLedger {
 public:
  /// A connection begins: `acknowledged` bytes were before its first message.
  void begin(int64_t acknowledged);
  /// A message of so many bytes, which its owner handed in at `queued_at`, is in the socket now.
  void handed_over(LinkTime queued_at, int64_t bytes);
  /// So many bytes were acknowledged by now.
  void acknowledged(int64_t bytes);

  /// When the oldest message that has not left was handed in; nothing where all have.
  std::optional<LinkTime> oldest() const;
  /// Payload that has not left.
  int64_t bytes_left() const { return waiting_.empty() ? 0 : handed_over_ - acknowledged_; }

 private:
  struct Waiting {
    LinkTime queued_at;
    int64_t end;  ///< bytes handed over with it
  };
  std::deque<Waiting> waiting_;
  int64_t base_ = 0;          ///< acknowledged bytes that belong to no message in waiting_
  int64_t acknowledged_ = 0;  ///< since
  int64_t handed_over_ = 0;   ///< since
};

}  // namespace tandem::transport_detail
