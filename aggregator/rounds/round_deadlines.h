#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <vector>

#include "tandem/aggregator/rounds/deadline_clock.h"
#include "tandem/aggregator/rounds/relay_turns.h"
#include "tandem/aggregator/rounds/round.h"
#include "tandem/aggregator/rounds/transfer_allowance.h"
#include "tandem/aggregator/session/session_options.h"

namespace tandem::aggregator {

/// Until when one round waits, and for whom, by a clock that stands still in a pause:
///
///  * in a lane's step, from the moment the lane came to it;
///  * for a device that trains by itself, from the beginning of the round or of its turn;
///  * for fronts, from the moment they were last asked for;
///  * for the whole round, where the options limit it.
///
/// Where the options say so, each is put off while what it waits for is on its way (TransferAllowance), but
/// for the whole round's. The first two are there only if the options do not wait for everybody, and in relay
/// only against whoever has the front and was not asked for it. Not thread-safe.
class RoundDeadlines {
 public:
  /// The round begins, or goes on after a restart, now. `relay`: null with other algorithms. All must outlive
  /// this.
  RoundDeadlines(const SessionOptions& options, const DeadlineClock& clock, const Roster& roster,
                 const Round& round, const RelayTurns* relay);

  /// The lane is at another step, or at the second half of a U-shaped one, or waits once more.
  void restart_lane(size_t lane);
  /// Relay: another device has the front.
  void begin_turn();
  void ask_for_fronts();
  /// Its time is up; it is so once.
  void end_round() { round_end_.reset(); }
  /// After a pause: as long as was left before it is left now.
  void move(TimePoint::duration pause);

  bool round_is_up(TimePoint as_of) const { return round_end_ && as_of >= *round_end_; }
  /// Requires that fronts were asked for.
  bool fronts_are_late(TimePoint as_of) const { return as_of >= fronts(); }
  std::vector<size_t> late_lanes(TimePoint as_of) const;
  std::vector<ClientId> late_trainers(TimePoint as_of) const;

  /// The next of them while steps are made; none when nothing is waited for against time.
  std::optional<TimePoint> next() const;
  /// Until when fronts are waited for.
  TimePoint fronts() const { return fronts_ + front_allowance_.so_far(); }

 private:
  bool is_limited(size_t lane) const;
  bool is_limited(const ClientId& client, const Participant& part) const;
  TimePoint deadline_of(const ClientId& client, const Participant& part) const;
  TimePoint deadline_of(size_t lane) const { return lanes_[lane].deadline + lanes_[lane].allowance.so_far(); }

  struct Lane {
    TimePoint deadline;
    TransferAllowance allowance;
  };

  const SessionOptions& options_;
  const DeadlineClock& clock_;
  const Roster& roster_;
  const Round& round_;
  const RelayTurns* relay_;
  std::vector<Lane> lanes_;
  TimePoint trainers_started_;
  std::map<ClientId, TransferAllowance> trainer_allowances_;
  TimePoint fronts_;
  TransferAllowance front_allowance_;
  std::optional<TimePoint> round_end_;
};

}  // namespace tandem::aggregator
