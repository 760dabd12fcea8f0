#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "tandem/core/training/figures.h"

namespace tandem {

/// What a model is trained towards: cross-entropy of logits, float32 [n, classes], against class ids, int64
/// [n]. Every loss in Tandem is computed here. Throws c10::Error where the shapes do not fit each other.
/// Thread-safe.
class Objective {
 public:
  /// Returns the mean loss over the batch, a scalar with its graph.
  at::Tensor mean_loss(const at::Tensor& logits, const at::Tensor& labels) const;
  /// Returns the sum of the examples' losses, a scalar with its graph: no example's gradient depends on how
  /// many there are.
  at::Tensor summed_loss(const at::Tensor& logits, const at::Tensor& labels) const;

  /// Returns the figures of the batch, where its mean loss is known.
  Figures figures(const at::Tensor& logits, const at::Tensor& labels, const at::Tensor& mean_loss) const;
  /// Returns the figures of the batch.
  Figures figures(const at::Tensor& logits, const at::Tensor& labels) const;
  /// Returns the figures of the batch, the losses added up in one sum instead of their mean times n.
  Figures summed_figures(const at::Tensor& logits, const at::Tensor& labels) const;
  /// Returns the figures of consecutive pieces of the batch, `sizes` examples each.
  std::vector<Figures> figures_of_pieces(const at::Tensor& logits, const at::Tensor& labels,
                                         const std::vector<int64_t>& sizes) const;
};

}  // namespace tandem
