#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tandem/core/planning/chain_cost.h"

namespace tandem::detail {

/// The exact planner's answer for a chain. `objective`: kLatency, kThroughput or kPipeline.
Plan plan_chain(const Problem& problem, PlanObjective objective);

/// The same without runner-up and figures: only the stages; nothing when there is no plan.
std::optional<std::vector<PlanStage>> best_stages(const Problem& problem, PlanObjective objective);

/// The names of the baselines for chains.
const std::vector<std::string>& chain_baseline_names();

/// What the rule of a baseline gives, if that obeys the constraints of the problem.
std::optional<std::vector<PlanStage>> baseline_stages(const Problem& problem, PlanObjective objective,
                                                      const std::string& name);

/// The baselines whose rule takes no search, to start a search with.
std::vector<std::vector<PlanStage>> simple_plans(const Problem& problem);

/// Fills in what follows from the stages: objective, terms, memory.
void set_stages(const Problem& problem, std::vector<PlanStage> stages, Plan& plan);

/// Why there is no plan: the constraint without which there would be one.
std::string chain_infeasible_reason(const Problem& problem);

}  // namespace tandem::detail
