#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "tandem/aggregator/rounds/round_planner.h"
#include "tandem/aggregator/tail/tail_trainer.h"
#include "tandem/core/base/ids.h"
#include "tandem/core/base/result.h"

namespace tandem::aggregator {

/// One client's part of the round under way.
struct Participant {
  std::vector<uint32_t> batch_sizes;
  uint64_t first_example = 0;
  /// False once it left, missed two steps, or was replaced: it takes no further part in this round.
  bool active = true;
  /// Whether it said that all its steps are done, where it trains without asking.
  bool trained = false;
  uint32_t missed = 0;
  uint32_t steps = 0;  ///< that count: whose answer was sent to it, or that it says it made
  Figures figures;     ///< of those steps; the examples are its weight in the average
  /// Batches and results of it that were refused because a value was not finite or beyond its limit, and what
  /// was wrong with the last one.
  uint32_t beyond_limits = 0;
  std::string beyond_limits_reason;
  int64_t bytes_up_before = 0;
  int64_t bytes_down_before = 0;

  uint64_t planned_examples() const;
  uint32_t planned_steps() const;  ///< those with examples
  /// Counts a refusal; any other error than kNonFinite is no matter of values, and is not counted.
  void count_beyond_limits(const Error& error);
  /// Records what the client says of the steps that it made by itself.
  void record_trained(const Figures& figures);
};

/// The steps of one round: who is expected in which tail's step, what has arrived. Knows nothing of
/// messages or time. Not thread-safe.
class Round {
 public:
  Round(RoundId id, RoundPlan plan);
  /// From what `state` gave. Throws nlohmann's exceptions on anything else.
  explicit Round(const nlohmann::json& state);

  /// What a checkpoint keeps: everything but what has arrived and is not applied, which its senders repeat.
  nlohmann::json state() const;

  RoundId id() const { return id_; }
  /// Steps of the client that has most.
  uint32_t steps() const { return steps_; }
  const std::vector<ClientId>& turns() const { return turns_; }

  std::map<ClientId, Participant>& participants() { return participants_; }
  const std::map<ClientId, Participant>& participants() const { return participants_; }
  /// The client's part when it is still active, else null.
  Participant* active(const ClientId& client);
  int active_count() const { return active_count_; }
  std::vector<ClientId> active_clients() const;
  /// Examples the client is planned to bring to its step.
  uint32_t planned(const ClientId& client, uint32_t step) const;

  enum class StepState {
    kOpen,      ///< the client may send it now
    kTooEarly,  ///< an earlier step of its own must be answered first
    kPast,      ///< answered, or went on without it
    kUnknown,   ///< no such step of this client goes up
  };
  /// `window`: how far past its first step without an answer a client may be, in its own step numbers, or
  /// where it does not wait for gradients, how many of its steps may be without an answer.
  StepState state_of(const ClientId& client, uint32_t step, uint32_t window, bool waits = true) const;
  /// Whether every step of the client that goes up has its answer, or went on without it.
  bool answered(const ClientId& client) const;
  /// The client's first step that goes up and has neither; past all of them, the largest number.
  uint32_t first_unanswered(const ClientId& client) const;
  bool has(const ClientId& client, uint32_t step) const;
  /// The client's own steps whose activations are here and wait for their turn.
  std::vector<uint32_t> waiting_steps(const ClientId& client) const;
  /// Keeps a client's activations for a step of its own that is open.
  void put(ClientActivations activations);

  size_t lanes() const { return lanes_.size(); }
  /// The lane in which the client's steps are applied; none where no step of it goes up.
  std::optional<size_t> lane_of(const ClientId& client) const;
  bool lane_done(size_t lane) const { return lanes_[lane].current >= lanes_[lane].steps.size(); }
  bool lanes_done() const { return lanes_done_ == lanes_.size(); }
  /// Steps of this tail that are behind it; for a display over all lanes.
  /// The same over all lanes.
  uint32_t applied() const { return applied_; }
  uint32_t tail_steps() const { return tail_steps_; }
  uint32_t applied(size_t lane) const { return static_cast<uint32_t>(lanes_[lane].current); }
  uint32_t tail_steps(size_t lane) const { return static_cast<uint32_t>(lanes_[lane].steps.size()); }

  /// Entries of the lane's current step that have not arrived, of active clients.
  std::vector<TailEntry> missing(size_t lane) const;
  /// Clients whose turn it is: those of the lane's current step.
  std::vector<ClientId> expected(size_t lane) const;
  bool ready(size_t lane) const;

  /// The lane's current step goes on without this client; two such steps exclude it, then true.
  bool miss(size_t lane, const ClientId& client);
  /// From now on nobody waits for this client, as long as a step has others: a step that goes on without
  /// it moves its own steps one back, so that what it sends joins the step that is open then. Until its next
  /// batch; false when it lags already.
  bool let_lag(const ClientId& client);
  /// Whether nobody but clients that lag is left in the lane's current step.
  bool only_laggards(size_t lane) const;
  void deactivate(const ClientId& client);

  /// Adds a step's figures to a client's part.
  void count_step(const ClientId& client, const Figures& figures);
  /// Records what a client says of the steps that it made by itself.
  void count_trained(const ClientId& client, const Figures& figures);
  /// What was counted, of all clients.
  const Figures& totals() const { return totals_; }

  /// What has arrived for the lane's current step, in the planned order. The step stays the current one.
  std::vector<ClientActivations> take(size_t lane);
  /// On to the lane's next step.
  void advance(size_t lane);

 private:
  void begin_counting();

  struct LaneState {
    Lane steps;
    size_t current = 0;
  };
  void forget(const ClientId& client, uint32_t step);
  void postpone(size_t lane, const ClientId& client);
  bool waits_for(const TailEntry& entry) const;
  /// Whether the entry's activations are awaited and not here. `all_lag`: nobody but laggards is left in its
  /// step.
  bool is_missing(const TailEntry& entry, bool all_lag) const;

  RoundId id_;
  uint32_t steps_;
  std::vector<ClientId> turns_;
  std::map<ClientId, Participant> participants_;
  std::vector<LaneState> lanes_;
  std::map<ClientId, size_t> lane_of_;
  std::map<ClientId, std::deque<uint32_t>> pending_;  // own steps that go up and have no answer, in order
  std::map<ClientId, std::map<uint32_t, ClientActivations>> arrived_;
  std::set<ClientId> lagging_;
  // So that no message walks over all clients.
  int active_count_ = 0;
  uint32_t applied_ = 0;
  uint32_t tail_steps_ = 0;
  size_t lanes_done_ = 0;
  Figures totals_;
};

}  // namespace tandem::aggregator
