#pragma once

#include <optional>
#include <vector>

#include "tandem/core/planning/chain_bounds_detail.h"

namespace tandem::detail {

/// What a search looks for.
struct SearchGoal {
  /// Plans above it are of no interest.
  double threshold = kNever;
  /// Looks for the plan that wins the tie among all plans up to `threshold`, instead of for the cheapest.
  bool ties = false;
  /// This plan, and what differs from it only by swapped devices of one class, is left out.
  const std::vector<PlanStage>* avoid = nullptr;
  /// Goes on from only so many beginnings with the same number of blocks, unless it is 0: then the search is quick
  /// and its answer a plan, no proof.
  size_t beam = 0;
  /// Makes do with rough bounds, which take less time than good ones.
  bool rough = false;
  /// Gives up beyond so many labels.
  size_t most_labels = 4'000'000;
};

/// What a search found.
struct SearchResult {
  std::optional<std::vector<PlanStage>> stages;
  double value = kNever;  ///< of the stages
  /// Whether nothing was cut off by a limit of the goal: then there is no better plan.
  bool complete = true;
  /// Where not complete: no plan is below it, other than `stages`.
  double lower_bound = 0;
};

/// What searches of one model and one objective share.
class SearchTables {
 public:
  explicit SearchTables(const ChainModel& model) : used_(model) {}

  /// Makes the bounds for plans up to `threshold`, if there are none yet.
  void prepare(const ChainModel& model, const ChainWeights& weights, double threshold, bool rough);
  UsedCounts& used() { return used_; }
  const CompletionTable& completions() const { return *completions_; }

 private:
  UsedCounts used_;
  std::optional<CompletionTable> completions_;
  double threshold_ = 0;
  bool by_counts_ = false;
};

/// Searches the chains in which each device holds one range of blocks (the source two, where the last stage is
/// there).
SearchResult search_contiguous(const ChainModel& model, const ChainWeights& weights, const SearchGoal& goal,
                               SearchTables& tables);

/// Searches the chains in which a device may hold any blocks.
SearchResult search_scattered(const ChainModel& model, const ChainWeights& weights, const SearchGoal& goal);

}  // namespace tandem::detail
