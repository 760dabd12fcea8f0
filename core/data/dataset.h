#pragma once

#include <cstdint>
#include <span>

#include <ATen/core/Tensor.h>

#include "tandem/core/data/data_description.h"

namespace tandem {

/// Examples and their labels.
struct Batch {
  at::Tensor inputs;  ///< uint8 [n, ...] as stored (0..255), or float32 [n, ...]
  at::Tensor labels;  ///< int64 [n]
};

/// Labelled examples at random access. Immutable after construction: any thread may read.
class Dataset {
 public:
  virtual ~Dataset() = default;
  virtual DataDescription describe() const = 0;
  /// The examples of those numbers, each in [0, num_examples), in that order, freshly allocated.
  virtual Batch get(std::span<const int64_t> indices) const = 0;
};

}  // namespace tandem
