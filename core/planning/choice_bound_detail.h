#pragma once

#include <vector>

#include "tandem/core/planning/split_cost.h"

namespace tandem::detail {

/// For each client an index into its options.
using Choice = std::vector<size_t>;
using ClientOptions = std::vector<std::vector<CutOption>>;

/// What the bound found besides itself: choices to start a search from, the most important first.
struct ChoiceBound {
  double bound = 0;
  std::vector<Choice> choices;
};

/// A lower bound of the step with a sequential server, over all choices of cuts and all orders that are below
/// `upper`. In a step of T all clients whose jobs begin at a or later and have tails of at least b are served
/// between a and T - b. A T is refuted if the intervals can be weighed so that each client, whichever cut it has,
/// puts more work into them than they hold: a linear program, solved as a matrix game between intervals and
/// choices, to which both sides add their best answers. The bound is the largest T refuted, found by bisection.
ChoiceBound bound_choices(const ClientOptions& options, double upper);

}  // namespace tandem::detail
