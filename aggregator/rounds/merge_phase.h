#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <vector>

#include "tandem/aggregator/rounds/divergence.h"
#include "tandem/aggregator/rounds/round.h"
#include "tandem/aggregator/rounds/round_deadlines.h"
#include "tandem/aggregator/rounds/training.h"
#include "tandem/aggregator/rounds/update_merge.h"
#include "tandem/aggregator/session/messenger.h"
#include "tandem/aggregator/session/session_options.h"
#include "tandem/aggregator/strategies/strategy.h"
#include "tandem/aggregator/tail/tails.h"
#include "tandem/aggregator/tail/trained_model.h"
#include "tandem/core/base/ids.h"
#include "tandem/core/training/block_merge.h"

namespace tandem::aggregator {

/// The part of a round in which the clients' weights become the next ones: asks for them, a few at a time or
/// all at once, hands them to the strategy in the order of the clients' ids, each with its tail's replica
/// where there is one, and loads what the strategy makes of them. Where clients have different cuts and share
/// a tail, which strategy there is (fedavg or fedprox) makes no difference: a block's copies on the devices
/// and on the aggregator are averaged by the examples that trained each. Not thread-safe.
class MergePhase {
 public:
  /// What the phase works on; everything must outlive it.
  struct Context {
    const SessionOptions& options;
    Messenger& messenger;
    TrainedModel& model;
    Strategy& strategy;
    Tails* tails;  ///< null where the whole model is on the devices
    Round& round;
    RoundDeadlines& deadlines;
    Divergence& divergence;
    TrainingFigures& figures;
  };

  /// Clients and the examples that each trained on in this round, those that have any. `now`: the round's
  /// time is up, and a device that trains by itself has not said yet how far it came.
  static std::map<ClientId, uint64_t> contributors(const Round& round, const TrainingPlan& plan, bool now);

  /// Begins the strategy's merge. `now`: everybody is asked at once. `prepare` is called with each client
  /// whose replica is about to be merged.
  MergePhase(Context context, std::map<ClientId, uint64_t> contributors, bool now,
             std::function<void(const ClientId&)> prepare);

  bool waits_for(const ClientId& client) const { return updates_.waits_for(client); }
  std::vector<ClientId> outstanding() const { return updates_.outstanding(); }
  bool complete() const { return updates_.complete(); }

  /// Asks those whose turn it is.
  void ask();
  void receive(ClientUpdate update) { updates_.receive(std::move(update)); }
  void give_up(const ClientId& client) { updates_.give_up(client); }
  /// Loads what the strategy made of the updates; without one the weights stay as they were. Returns how many
  /// were merged.
  int finish();

 private:
  NamedTensors layout() const;
  bool take(ClientUpdate update);
  Result<void> add(ClientUpdate update);
  void load(const Result<NamedTensors>& merged);
  void merge_blocks();

  Context context_;
  bool now_;
  std::function<void(const ClientId&)> prepare_;
  std::optional<BlockMerge> blocks_;  // different cuts, one tail
  UpdateMerge updates_;
};

}  // namespace tandem::aggregator
