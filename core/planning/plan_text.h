#pragma once

#include <string>

#include "tandem/core/planning/plan.h"

namespace tandem {

/// The plan for a person: its cost, bound and gap, then a line for each stage or client, and the terms. Lines end
/// with '\n'. `problem` is the one that was planned.
std::string plan_table(const Problem& problem, const Plan& plan);

/// Why this plan: a line for each place that holds blocks, with what it does in the plan and what changes in the
/// next best one.
std::string plan_explanation(const Problem& problem, const Plan& plan);

}  // namespace tandem
