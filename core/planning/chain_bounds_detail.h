#pragma once

#include <vector>

#include "tandem/core/planning/chain_model_detail.h"

namespace tandem::detail {

/// The least that the rest of a chain costs, each figure by itself.
struct Completion {
  double latency = kNever;
  double forward = kNever;   ///< the bottleneck forward
  double backward = kNever;  ///< the bottleneck backward
};

/// Lower bounds of what comes behind the first `done` blocks, after a last stage on class `k`. Where that takes
/// at most `most_steps` steps the table looks at the devices that are used, else a device may be used again, as
/// in EdgeShard's recurrence (arXiv 2405.14371, equation 7). Memory bounds each stage by itself. Only plans whose
/// objective is at most `threshold` and whose bottleneck is at most `cap` are looked at: the figures are bounds
/// for these.
class CompletionTable {
 public:
  CompletionTable(const ChainModel& model, UsedCounts& used, const ChainWeights& weights, double threshold,
                  double cap, double most_steps);

  const Completion& at(size_t done, UsedCounts::Id used, size_t k) const {
    return entries_[(done * layers_ + (by_counts_ ? used : 0)) * model_.classes() + k];
  }
  /// Bounds of whole plans.
  const Completion& whole() const { return at(0, used_.none(), model_.source_class()); }

 private:
  Completion& entry(size_t done, size_t layer, size_t k) {
    return entries_[(done * layers_ + layer) * model_.classes() + k];
  }
  void fill(size_t done, size_t layer, size_t k);
  void try_stages(size_t done, size_t layer, size_t k, size_t next, Completion& best);
  /// The layer behind a stage on class `next`, or kNone when there can be none.
  UsedCounts::Id layer_after(size_t layer, size_t k, size_t next) const;

  const ChainModel& model_;
  UsedCounts& used_;
  const ChainWeights weights_;
  const double threshold_;
  const double cap_;
  bool by_counts_ = false;
  size_t layers_ = 1;
  std::vector<Completion> entries_;
};

/// The largest bottleneck that a plan up to `threshold` can have, by the bounds of `table`.
double largest_bottleneck(const CompletionTable& table, const ChainWeights& weights, double threshold);

}  // namespace tandem::detail
