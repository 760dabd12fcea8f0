#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "tandem/core/data/dataset.h"
#include "tandem/datasets/tensor_dataset.h"

namespace tandem::datasets {

/// Some examples of another data set, seen through their numbers: nothing is copied and the whole stays
/// alive, which suits many simulated clients that share one data set in memory.
class Subset : public Dataset {
 public:
  /// Example i is example indices[i] of `whole`. Throws std::invalid_argument naming an index outside it.
  Subset(std::shared_ptr<const Dataset> whole, std::vector<int64_t> indices);

  /// `num_classes` is the whole's, whichever classes occur here.
  DataDescription describe() const override;
  Batch get(std::span<const int64_t> indices) const override;

 private:
  std::shared_ptr<const Dataset> whole_;
  std::vector<int64_t> indices_;
};

/// The same examples copied out, so that the rest can be freed: what a real device keeps.
std::shared_ptr<const TensorDataset> copy_examples(const Dataset& whole, std::span<const int64_t> indices);

/// The labels of all examples, in order.
std::vector<int64_t> read_labels(const Dataset& dataset);

}  // namespace tandem::datasets
