#pragma once

#include <cstdint>
#include <span>

#include <ATen/core/Tensor.h>

#include "tandem/core/data/dataset.h"

namespace tandem::datasets {

/// A data set that lies in memory as two tensors.
class TensorDataset : public Dataset {
 public:
  /// `inputs` uint8 or float32 [N, ...]; `labels` int64 [N], each in [0, num_classes).
  /// Keeps the tensors without copying where they are contiguous: nobody may write to them afterwards.
  /// Throws std::invalid_argument naming what does not fit.
  TensorDataset(at::Tensor inputs, at::Tensor labels, int64_t num_classes);

  DataDescription describe() const override;
  /// Throws std::invalid_argument naming an index outside [0, num_examples).
  Batch get(std::span<const int64_t> indices) const override;

  /// All of them, to be read only.
  const at::Tensor& inputs() const { return inputs_; }
  const at::Tensor& labels() const { return labels_; }

 private:
  at::Tensor inputs_;
  at::Tensor labels_;
  int64_t num_classes_;
};

}  // namespace tandem::datasets
