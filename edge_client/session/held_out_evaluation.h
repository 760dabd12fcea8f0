#pragma once

#include <cstdint>
#include <optional>

#include <ATen/core/Tensor.h>

#include "tandem/core/data/dataset.h"
#include "tandem/core/training/figures.h"

namespace tandem::edge_client {

/// One pass over the examples held back, batch by batch in their order, and what the model made of them.
/// Each batch is counted before the next one is taken, so that none is left out or counted twice.
class HeldOutEvaluation {
 public:
  /// None has begun.
  HeldOutEvaluation() = default;
  /// `round` is that of its messages, `batch_size` >= 1; `examples` must outlive it.
  HeldOutEvaluation(uint32_t round, const Dataset& examples, int64_t batch_size);

  uint32_t round() const { return round_; }

  /// The first batch that was not counted; nothing when all were.
  std::optional<Batch> next_batch();
  /// Its number, the step of its request. Behind the last one when all were counted.
  uint32_t step() const { return step_; }
  /// Its labels. Requires a batch that was taken and not counted.
  const at::Tensor& labels() const { return labels_; }
  /// Counts it.
  void count(const Figures& figures);

  const Figures& totals() const { return totals_; }

 private:
  uint32_t round_ = 0;
  const Dataset* examples_ = nullptr;
  int64_t batch_size_ = 1;
  uint32_t step_ = 0;
  at::Tensor labels_;
  Figures totals_;
};

}  // namespace tandem::edge_client
