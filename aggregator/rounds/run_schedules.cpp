#include "tandem/aggregator/rounds/run_schedules.h"

#include <algorithm>

#include <nlohmann/json.hpp>

namespace tandem::aggregator {
namespace {

using Clients = std::map<ClientId, RoundPlanner::ClientData>;

/// Expected steps of a round, times the number of clients that are there: so whole numbers stay exact.
struct ExpectedSteps {
  double device = 0;
  double tail = 0;
};

size_t longest_lane(const RoundPlan& plan) {
  size_t longest = 0;
  for (const Lane& lane : plan.lanes) longest = std::max(longest, lane.size());
  return longest;
}

/// Of `parallel`, whose steps are joined, where some of the clients are drawn.
ExpectedSteps joined_steps(const RoundPlan& first, const Clients& present, bool fixed_steps) {
  double all = 0, joined = 0;
  for (const auto& [client, data] : present) {
    all += static_cast<double>(data.examples);
    if (first.batch_sizes.contains(client)) joined += static_cast<double>(data.examples);
  }
  const auto drawn = static_cast<double>(first.batch_sizes.size());
  const auto there = static_cast<double>(present.size());
  const double scale = fixed_steps ? 1.0 : drawn * all / (there * joined);
  return {.device = first.steps() * drawn * scale,
          .tail = static_cast<double>(longest_lane(first)) * there * scale};
}

/// Of the other algorithms, whose clients make their own steps, where some of them are drawn.
ExpectedSteps own_steps(const TrainingPlan& plan, size_t drawn, const Clients& present,
                        const RoundPlanner& planner) {
  uint32_t most = 0;
  double sent = 0;  // by all clients
  for (const auto& [client, data] : present) {
    const uint32_t steps = planner.own_steps(data);
    most = std::max(most, steps);
    sent += steps / plan.tail_interval;
  }
  const auto times = static_cast<double>(drawn);
  const bool replicas = plan.algorithm == Algorithm::kSplitFedV1;
  const uint32_t most_sent = most / plan.tail_interval;
  return {.device = most * times, .tail = replicas ? most_sent * times : sent * times};
}

}  // namespace

RunSchedules::RunSchedules(const SessionOptions& options)
    : options_(options), device_(options.plan.lr_schedule), tail_(options.plan.lr_schedule) {}

void RunSchedules::fix(const RoundPlan& first, const Clients& present, const RoundPlanner& planner) {
  known_ = true;
  if (!options_.schedule_spans_run) return;
  const TrainingPlan& plan = options_.plan;
  const auto there = static_cast<double>(present.size());
  ExpectedSteps steps{.device = first.steps() * there,
                      .tail = static_cast<double>(longest_lane(first)) * there};
  if (first.batch_sizes.size() < present.size()) {
    steps = plan.algorithm == Algorithm::kParallel
                ? joined_steps(first, present, options_.local_steps > 0)
                : own_steps(plan, first.batch_sizes.size(), present, planner);
  }
  // A tail goes once over what it gets, and again over what it replays, if there is room for all of it.
  double passes = plan.rounds;
  if (plan.objective == EdgeObjective::kAligned) {
    const uint32_t aligned_rounds = plan.rounds / options_.alignment.interval;
    passes += static_cast<double>(options_.alignment.tail_epochs) * aligned_rounds;
  }
  span(device_, steps.device * plan.rounds / there);
  span(tail_, steps.tail * passes / there);
}

void RunSchedules::span(LrScheduleOptions& schedule, double steps) {
  schedule.period_steps = std::max(1.0, steps - static_cast<double>(schedule.warmup_steps));
}

nlohmann::json RunSchedules::state() const {
  return {{"schedules_known", known_},
          {"lr_period_steps", device_.period_steps},
          {"tail_period_steps", tail_.period_steps}};
}

void RunSchedules::load_state(const nlohmann::json& values) {
  known_ = values.at("schedules_known").get<bool>();
  device_.period_steps = values.at("lr_period_steps").get<double>();
  tail_.period_steps = values.at("tail_period_steps").get<double>();
}

}  // namespace tandem::aggregator
