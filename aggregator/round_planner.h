#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "tandem/core/base/ids.h"
#include "tandem/core/training/example_pool.h"

namespace tandem::aggregator {

/// Who brings how many examples to each step of one round.
struct RoundPlan {
  uint32_t steps = 0;
  /// For each client `steps` numbers; 0 sits the step out.
  std::map<ClientId, std::vector<uint32_t>> batch_sizes;
};

struct RoundPlannerOptions {
  uint64_t seed = 1;
  uint32_t batch_size = 64;
  /// 0: the round is `local_epochs` passes over the participants' data.
  uint32_t local_steps = 0;
  uint32_t local_epochs = 1;
  /// 2 where the model uses batch statistics, otherwise 1.
  uint32_t minimum_batch = 1;
  /// A plan that would have more steps stops one step later.
  uint32_t max_steps = 500'000;
};

/// Draws the joined batches of `parallel`'s rounds. With `local_steps`, an epoch goes on across rounds for
/// as long as the same clients take part. Not thread-safe.
class RoundPlanner {
 public:
  explicit RoundPlanner(RoundPlannerOptions options);

  /// `examples`: each participant's number of examples, >= 1. The plan has no step when they cannot fill
  /// a batch of the minimum size.
  RoundPlan plan(const std::map<ClientId, int64_t>& examples);

 private:
  void add_step(RoundPlan& plan);

  RoundPlannerOptions options_;
  ExamplePool pool_;
  std::map<ClientId, int64_t> participants_;
};

}  // namespace tandem::aggregator
