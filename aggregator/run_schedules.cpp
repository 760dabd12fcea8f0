#include "tandem/aggregator/run_schedules.h"

#include <algorithm>
#include <cmath>

#include <nlohmann/json.hpp>

namespace tandem::aggregator {

RunSchedules::RunSchedules(const SessionOptions& options)
    : options_(options), device_(options.plan.lr_schedule), tail_(options.plan.lr_schedule) {}

void RunSchedules::fix(const RoundPlan& first) {
  known_ = true;
  if (!options_.schedule_spans_run) return;
  // A device that is drawn now and then makes its steps in a part of the rounds.
  const double share = options_.clients_per_round > 0
                           ? static_cast<double>(options_.clients_per_round) / options_.clients
                           : 1.0;
  span_run(device_, share * first.steps());
  size_t longest = 0;
  for (const Lane& lane : first.lanes) longest = std::max(longest, lane.size());
  const bool replicas = options_.plan.schedule() == Algorithm::kSplitFedV1;
  // What it replays, if there is room for all of it.
  double passes = 1;
  if (options_.plan.objective == EdgeObjective::kAligned) {
    const uint32_t aligned_rounds = options_.plan.rounds / options_.alignment.interval;
    passes += static_cast<double>(options_.alignment.tail_epochs) * aligned_rounds / options_.plan.rounds;
  }
  span_run(tail_, passes * (replicas ? share : 1.0) * static_cast<double>(longest));
}

void RunSchedules::span_run(LrScheduleOptions& schedule, double steps_a_round) const {
  const int64_t steps = std::max<int64_t>(1, std::llround(steps_a_round));
  schedule.period_steps = std::max<int64_t>(1, steps * options_.plan.rounds - schedule.warmup_steps);
}

nlohmann::json RunSchedules::state() const {
  return {{"schedules_known", known_},
          {"lr_period_steps", device_.period_steps},
          {"tail_period_steps", tail_.period_steps}};
}

void RunSchedules::load_state(const nlohmann::json& values) {
  known_ = values.at("schedules_known").get<bool>();
  device_.period_steps = values.at("lr_period_steps").get<int64_t>();
  tail_.period_steps = values.at("tail_period_steps").get<int64_t>();
}

}  // namespace tandem::aggregator
