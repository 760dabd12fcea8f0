#pragma once

#include <string>
#include <vector>

#include "tandem/core/planning/plan.h"

namespace tandem::detail {

/// What a part of a step is.
enum class StepPart { kForward, kBackward, kTransfer, kServer };

/// A part of a step on one row of the Gantt chart, in ms from the step's beginning.
struct StepBar {
  size_t row = 0;
  double start_ms = 0;
  double length_ms = 0;
  StepPart part = StepPart::kForward;
  std::string what;
};

/// One step by the plan. The rows are places.
struct StepSchedule {
  std::vector<std::string> rows;
  std::vector<StepBar> bars;
};

/// Simulates one pass through the chain, or one step of all clients.
StepSchedule step_schedule(const Problem& problem, const Plan& plan);

/// The terms of the time with the cut `cut`, in the order in which they happen.
struct CutTerms {
  size_t cut = 0;
  std::vector<StepBar> parts;
};
struct CutCurve {
  std::string title;
  std::vector<CutTerms> cuts;
};
/// Of the source and one other device of the plan, or of the client that takes longest.
CutCurve cut_curve(const Problem& problem, const Plan& plan);

}  // namespace tandem::detail
