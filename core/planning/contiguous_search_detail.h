#pragma once

#include <unordered_map>

#include "tandem/core/planning/chain_search_detail.h"

namespace tandem::detail {

/// A beginning of a chain: what its stages cost so far.
struct ChainLabel {
  double latency = 0;
  double forward = 0;   ///< the bottleneck forward
  double backward = 0;  ///< the bottleneck backward
  double bytes = 0;
  StageSum on_source;  ///< of the source's first range, where a second one may follow
  int parent = -1;
  UsedCounts::Id used = 0;
  uint32_t last_class = 0;
  uint32_t device = 0;  ///< of the last stage; of a class's devices the first in file order come first
  uint32_t begin = 0;  ///< the last stage's blocks are begin ... end - 1
  uint32_t end = 0;
  /// It is a beginning of the plan that is to be avoided.
  bool avoided = false;
};

/// The labels whose beginnings end at the same block, use the same devices and end on the same class. None of
/// them is as good as another in everything.
struct LabelState {
  UsedCounts::Id used;
  uint32_t last_class;
  std::vector<int> labels;
};

/// Exact label setting over (blocks done, devices used of each class, last class); each state holds a Pareto set.
class ContiguousSearch {
 public:
  ContiguousSearch(const ChainModel& model, UsedCounts& used, const CompletionTable& table,
                   const ChainWeights& weights, const SearchGoal& goal);
  SearchResult run();

 private:
  using StateIndex = std::unordered_map<uint64_t, size_t>;

  std::vector<int> level(uint32_t done);
  void extend_all(int label, uint32_t done);
  void extend(int label, uint32_t done, size_t next);
  void extend_to_source_again(int label, uint32_t done);
  ChainLabel child_of(int label, size_t next, UsedCounts::Id used, uint32_t end, const StageSum& stage,
                      const Crossing& crossing) const;
  double bound(const ChainLabel& label) const;
  bool exceeds(double value) const { return value > threshold_ || value == kNever; }
  void keep(ChainLabel label);
  void keep_in_state(const ChainLabel& label, LabelState& state);
  void finish(const ChainLabel& label);
  bool dominates(const ChainLabel& a, const ChainLabel& b) const;
  bool has_lower_ids(const ChainLabel& a, const ChainLabel& b) const;
  bool stays_on_avoided(int parent, const ChainLabel& label) const;
  std::vector<PlanStage> stages_of_label(const ChainLabel& label) const;
  SearchResult stopped(uint32_t done) const;

  const ChainModel& model_;
  UsedCounts& used_;
  const CompletionTable& table_;
  const ChainWeights weights_;
  const SearchGoal& goal_;
  double threshold_;
  double tolerance_ = 0;  ///< in comparisons between labels, against rounding
  bool two_visits_;
  bool cut_off_ = false;
  std::vector<ChainLabel> labels_;
  std::vector<std::vector<LabelState>> states_;  ///< by blocks done
  std::vector<StateIndex> indices_;
  SearchResult best_;
};

}  // namespace tandem::detail
