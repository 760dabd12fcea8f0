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
/// `upper`. All clients whose jobs begin at a or later and have tails of at least b fit between a and T - b, so
/// for each pair (a, b): T >= a + b + their server times. The bound lets each client mix its cuts and weighs the
/// pairs so that the best mix is as bad as possible: a linear program, solved as a matrix game between pairs and
/// choices to which both sides add their best answers.
ChoiceBound bound_choices(const ClientOptions& options, double upper);

}  // namespace tandem::detail
