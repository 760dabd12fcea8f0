#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "tandem/aggregator/round_planner.h"
#include "tandem/aggregator/tail_trainer.h"
#include "tandem/core/base/ids.h"

namespace tandem::aggregator {

/// One client's part of the round under way.
struct Participant {
  std::vector<uint32_t> batch_sizes;
  uint64_t first_example = 0;
  /// False once it left, missed two steps, or was replaced: it takes no further part in this round.
  bool active = true;
  uint32_t missed = 0;
  uint32_t steps = 0;     ///< whose gradient was sent to it
  uint64_t examples = 0;  ///< of those steps: its weight in the average
  double loss_sum = 0;    ///< sum over examples
  uint64_t correct = 0;
  int64_t bytes_up_before = 0;
  int64_t bytes_down_before = 0;
};

/// The steps of one round: who is expected, what has arrived. Knows nothing of messages or time.
/// Not thread-safe.
class Round {
 public:
  Round(RoundId id, RoundPlan plan);

  RoundId id() const { return id_; }
  uint32_t steps() const { return steps_; }
  uint32_t current_step() const { return current_; }
  bool steps_done() const { return current_ >= steps_; }

  std::map<ClientId, Participant>& participants() { return participants_; }
  const std::map<ClientId, Participant>& participants() const { return participants_; }
  /// The client's part when it is still active, else null.
  Participant* active(const ClientId& client);
  int active_count() const;

  /// Examples the client is planned to bring to `step`.
  uint32_t planned(const ClientId& client, uint32_t step) const;
  /// Whether the client may send `step` now: it brings examples to it, and of the steps up to `step` -
  /// `window` that it takes part in none is left. (It passes over the steps it sits out by itself.)
  bool is_open(const ClientId& client, uint32_t step, uint32_t window) const;
  bool has(const ClientId& client, uint32_t step) const;
  /// Keeps a client's activations for the current or a later step.
  void put(uint32_t step, ClientActivations activations);

  /// Active clients that bring examples to the current step and have neither sent them nor been excused.
  std::vector<ClientId> missing() const;
  bool ready() const { return !steps_done() && missing().empty(); }
  /// The current step goes on without this client; two such steps exclude it from the round, then true.
  bool miss(const ClientId& client);
  void deactivate(const ClientId& client);

  /// What has arrived for the current step, in client-id order, and moves on to the next step.
  std::vector<ClientActivations> take_and_advance();

 private:
  RoundId id_;
  uint32_t steps_;
  uint32_t current_ = 0;
  std::map<ClientId, Participant> participants_;
  std::map<uint32_t, std::map<ClientId, ClientActivations>> arrived_;
  std::map<ClientId, uint32_t> excused_;  // client -> step it was excused from
};

}  // namespace tandem::aggregator
