#pragma once

#include <cstddef>
#include <vector>

#include "tandem/aggregator/rounds/round.h"
#include "tandem/core/base/ids.h"

namespace tandem::aggregator {

/// Whose turn it is in a round of `relay`: the front goes from one active client to the next, and there is
/// one holder at a time until the turns are over. A turn ends in two steps: the holder's front is asked for,
/// and when it came, or cannot come any more, the turn passes on. Knows nothing of messages or time. Not
/// thread-safe.
class RelayTurns {
 public:
  /// The turns that `round` plans, from number `turn` on; `round` must outlive this.
  explicit RelayTurns(const Round& round, size_t turn = 0) : round_(round), turn_(turn) {}

  /// Gives the turn to the first client from the present one on that is still active.
  void begin();
  /// The same from the next one on.
  void pass_on();
  /// The holder is to bring its front back. Requires !over().
  void ask_for_front() { asked_for_front_ = true; }

  /// Nobody is left who gets the front.
  bool over() const { return turn_ >= round_.turns().size(); }
  /// Requires !over().
  const ClientId& holder() const { return round_.turns()[turn_]; }
  bool is_held_by(const ClientId& client) const { return !over() && holder() == client; }
  /// The holder's front was asked for and the turn has not passed on: there is a holder.
  bool awaits_front() const { return asked_for_front_; }
  bool awaits_front_of(const ClientId& client) const { return awaits_front() && is_held_by(client); }
  /// Those whose turn is yet to come.
  std::vector<ClientId> later() const;
  /// What a checkpoint keeps: the number of the present turn.
  size_t turn() const { return turn_; }

 private:
  const Round& round_;
  size_t turn_;
  bool asked_for_front_ = false;
};

}  // namespace tandem::aggregator
