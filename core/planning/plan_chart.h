#pragma once

#include <string>

#include "tandem/core/planning/plan.h"

namespace tandem {

/// An SVG file with two pictures: the time against the cut with its terms stacked, and one step of the plan as a
/// Gantt chart. The first shows the source and one other device of the plan, or the client that takes longest.
/// Empty for a plan that is not feasible.
std::string plan_chart(const Problem& problem, const Plan& plan);

}  // namespace tandem
