#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "tandem/core/base/random.h"
#include "tandem/core/base/result.h"
#include "tandem/core/wire/frame.h"

namespace tandem {

/// How a program disturbs its own messages, so that a run can be tried under a bad network. Each applies to
/// both directions of every connection of this side, heartbeats included; libzmq's own handshakes and pings
/// pass unharmed.
struct FaultOptions {
  /// Probability, in [0, 1), that a message is lost.
  double drop = 0;
  /// Probability, in [0, 1), that a message comes twice.
  double duplicate = 0;
  /// Probability, in [0, 1), that one to three later messages overtake a message. It waits for them for up to
  /// FaultInjector::kOvertakeLimit.
  double reorder = 0;
  /// Probability, in [0, 1), that one bit of a message is flipped.
  double corrupt = 0;
  /// Every message is on its way for a time drawn from [0, delay]; without reorder the order is kept.
  std::chrono::milliseconds delay{0};
  /// The connection is cut after a time drawn from an exponential distribution with this mean; 0 never.
  std::chrono::milliseconds disconnect{0};
  /// Of every random decision. Each connection and direction has a stream of its own.
  uint64_t seed = 1;

  bool any() const;
  /// As parse_faults() reads it, without the seed: "drop=0.01,delay=50ms".
  std::string text() const;
};

/// "drop=0.01,duplicate=0.01,delay=50ms,reorder,corrupt=0.001,disconnect=30s" or any part of it; `reorder`
/// alone is reorder=0.01, times are in ms or s, empty text is no fault. kInvalidArgument quotes the part that
/// is wrong, what was expected, and the nearest known name.
Result<FaultOptions> parse_faults(const std::string& text, uint64_t seed);

/// What became of one side's messages. Nothing is lost that is not counted: once nothing waits,
/// delivered = messages - dropped + duplicated - discarded.
struct FaultCounts {
  uint64_t messages = 0;  ///< put in, both directions
  uint64_t delivered = 0;
  uint64_t dropped = 0;
  uint64_t duplicated = 0;
  uint64_t delayed = 0;
  uint64_t reordered = 0;  ///< were overtaken
  uint64_t corrupted = 0;
  uint64_t disconnected = 0;  ///< connections cut
  uint64_t discarded = 0;     ///< were on their way when their connection ended

  /// "12 of 1000 messages were dropped, ...", for a person.
  std::string text() const;
};

/// Disturbs the messages of one connection. No thread, no socket and no clock: messages are put in, and taken
/// out when they are due. The same options and stream give the same faults to the same messages, whatever the
/// other direction does.
class FaultInjector {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;
  enum class Direction { kOut = 0, kIn = 1 };
  /// How long a message waits to be overtaken where none follows.
  static constexpr std::chrono::milliseconds kOvertakeLimit{100};

  /// `stream` tells connections apart. `counts` outlives the injector.
  FaultInjector(const FaultOptions& options, uint64_t stream, TimePoint now, FaultCounts& counts);
  /// What still waits is lost with the connection, and counted.
  ~FaultInjector();
  FaultInjector(const FaultInjector&) = delete;
  FaultInjector& operator=(const FaultInjector&) = delete;

  void put(Direction direction, wire::Frames frames, TimePoint now);
  /// The next message that is due at `now`; TimePoint::max() takes everything.
  std::optional<wire::Frames> take(Direction direction, TimePoint now);
  /// Messages put in and not yet taken out.
  size_t waiting(Direction direction) const;

  /// Whether the connection has to be cut. Stays so until cut() says that it was.
  bool cut_due(TimePoint now) const { return now >= cut_at_; }
  /// Counts the cut and loses what waits; the connection is not cut again.
  void cut();
  /// Loses what waits, and counts it.
  void lose_all();

  /// When take() or cut_due() has something new; TimePoint::max() for never.
  TimePoint next_due() const;

 private:
  struct Queued {
    wire::Frames frames;
    TimePoint due;
  };
  /// Waits to be overtaken.
  struct HeldBack {
    wire::Frames frames;
    uint64_t to_overtake;  ///< so many more messages
    bool overtaken = false;
    TimePoint limit;
  };
  struct Lane {
    SplitMix64 random;
    std::deque<Queued> queue;  ///< due in this order
    std::vector<HeldBack> held;
    TimePoint last_due;
  };

  Lane& lane(Direction direction) { return lanes_[static_cast<size_t>(direction)]; }
  const Lane& lane(Direction direction) const { return lanes_[static_cast<size_t>(direction)]; }
  void send_off(Lane& lane, wire::Frames frames, TimePoint now);
  void release_overtaken(Lane& lane);
  void release_at_limit(Lane& lane, TimePoint now);
  void release(Lane& lane, HeldBack held, TimePoint due);

  const FaultOptions options_;
  FaultCounts& counts_;
  TimePoint cut_at_;
  Lane lanes_[2];
};

}  // namespace tandem
