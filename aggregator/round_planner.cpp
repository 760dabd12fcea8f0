#include "tandem/aggregator/round_planner.h"

namespace tandem::aggregator {

RoundPlanner::RoundPlanner(RoundPlannerOptions options)
    : options_(options), pool_(options.seed, options.minimum_batch) {}

void RoundPlanner::add_step(RoundPlan& plan) {
  for (const auto& [client, size] : pool_.draw(options_.batch_size)) {
    plan.batch_sizes[client].resize(plan.steps);  // zeros for the steps it sat out
    plan.batch_sizes[client].push_back(size);
  }
  ++plan.steps;
}

RoundPlan RoundPlanner::plan(const std::map<ClientId, int64_t>& examples) {
  RoundPlan plan;
  for (const auto& [client, count] : examples) plan.batch_sizes[client];
  const auto is_full = [&] { return plan.steps > options_.max_steps; };
  if (options_.local_steps > 0) {
    if (participants_ != examples) pool_.refill(examples);
    while (plan.steps < options_.local_steps && !is_full()) {
      if (pool_.remaining() == 0) pool_.refill(examples);
      if (pool_.remaining() == 0) break;
      add_step(plan);
    }
  } else {
    for (uint32_t epoch = 0; epoch < options_.local_epochs && !is_full(); ++epoch) {
      pool_.refill(examples);
      while (pool_.remaining() > 0 && !is_full()) add_step(plan);
    }
  }
  participants_ = examples;
  for (auto& [client, sizes] : plan.batch_sizes) sizes.resize(plan.steps);
  return plan;
}

}  // namespace tandem::aggregator
