#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "tandem/core/base/ids.h"
#include "tandem/core/base/result.h"
#include "tandem/core/training/example_pool.h"
#include "tandem/core/training/training_plan.h"

namespace tandem::aggregator {

/// A client's batch in a step of the tail, by the number that the client gives it.
struct TailEntry {
  ClientId client;
  uint32_t step = 0;
};

/// Steps of a round, so that a plan fits into one message.
inline constexpr uint32_t kMaxStepsOfRound = 500'000;
/// What a plan with more of them is answered with.
Error too_many_steps();

/// What one optimiser step of a tail is computed from: one client's batch, or several joined.
using TailStep = std::vector<TailEntry>;

/// The steps of one tail in the order in which they are applied.
using Lane = std::vector<TailStep>;

/// Who brings how many examples to each step of one round, and what the tails do with them.
struct RoundPlan {
  /// For each client the sizes of its batches; 0 sits a step out.
  std::map<ClientId, std::vector<uint32_t>> batch_sizes;
  /// One lane for one tail; for splitfed-v1 one for each client; none where nothing goes up.
  std::vector<Lane> lanes;
  /// splitfed-v2 and relay: the order of the clients.
  std::vector<ClientId> turns;

  /// Steps of the client that has most.
  uint32_t steps() const;
};

struct RoundPlannerOptions {
  uint64_t seed = 1;
  Algorithm algorithm = Algorithm::kParallel;
  EdgeObjective objective = EdgeObjective::kEndToEnd;
  uint32_t tail_interval = 1;
  /// Of the joined batch for `parallel`, of each client's for the others.
  uint32_t batch_size = 64;
  /// 0: the round is `local_epochs` passes over the participants' data.
  uint32_t local_steps = 0;
  uint32_t local_epochs = 1;
  /// 2 where the model uses batch statistics, otherwise 1.
  uint32_t minimum_batch = 1;
  /// A plan in which a client would have more steps stops one step later.
  uint32_t max_steps = kMaxStepsOfRound;
};

/// Plans the rounds of every algorithm. Not thread-safe.
class RoundPlanner {
 public:
  explicit RoundPlanner(RoundPlannerOptions options);

  struct ClientData {
    int64_t examples = 0;   ///< >= 1
    uint64_t position = 0;  ///< in its endless sequence of epochs
    bool operator==(const ClientData&) const = default;
  };

  /// The plan of round `round` (from 1). It has no step when the clients cannot fill a batch of the minimum
  /// size. `parallel` draws from the clients' pooled examples, and with `local_steps` an epoch goes on
  /// across rounds for as long as the same clients take part; the others cut each client's own epochs.
  RoundPlan plan(const std::map<ClientId, ClientData>& clients, uint32_t round);

  /// Steps of a round in which a client cuts its own epochs: of any algorithm but `parallel`.
  uint32_t own_steps(const ClientData& client) const {
    return static_cast<uint32_t>(cut_batches(client).size());
  }

  /// What a checkpoint keeps: a planner with it plans on as this one would.
  nlohmann::json state() const;
  /// Throws nlohmann's exceptions or std::invalid_argument on anything else.
  void load_state(const nlohmann::json& state);

 private:
  void draw_joined_batches(RoundPlan& plan, const std::map<ClientId, int64_t>& examples);
  std::vector<uint32_t> cut_batches(const ClientData& client) const;
  bool goes_up(uint32_t step, uint32_t size) const;
  void plan_lanes(RoundPlan& plan, uint32_t round) const;

  RoundPlannerOptions options_;
  ExamplePool pool_;
  std::map<ClientId, int64_t> participants_;
};

}  // namespace tandem::aggregator
