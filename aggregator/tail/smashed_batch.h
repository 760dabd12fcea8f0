#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

namespace tandem::aggregator {

/// Activations that crossed the cut and were kept.
struct SmashedBatch {
  at::Tensor activations;  ///< float32 [n, ...], CPU
  at::Tensor labels;       ///< int64 [n], CPU

  int64_t examples() const { return labels.size(0); }
  int64_t bytes() const;
  /// The examples at these places, int64 [m]; copies.
  SmashedBatch select(const at::Tensor& places) const;
};

/// All of them as one, in order; a copy. Requires at least one.
SmashedBatch join(const std::vector<SmashedBatch>& batches);

/// The places of `batch` in a random order, in pieces of `size` at most: the batches of one epoch. A pure
/// function of its arguments.
std::vector<at::Tensor> shuffled_places(const SmashedBatch& batch, int64_t size, uint64_t seed);

}  // namespace tandem::aggregator
