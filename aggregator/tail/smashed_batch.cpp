#include "tandem/aggregator/tail/smashed_batch.h"

#include <ATen/ATen.h>

#include "tandem/core/base/random.h"

namespace tandem::aggregator {

int64_t SmashedBatch::bytes() const {
  return static_cast<int64_t>(activations.nbytes() + labels.nbytes());
}

SmashedBatch SmashedBatch::select(const at::Tensor& places) const {
  return {.activations = activations.index_select(0, places), .labels = labels.index_select(0, places)};
}

SmashedBatch join(const std::vector<SmashedBatch>& batches) {
  std::vector<at::Tensor> activations;
  std::vector<at::Tensor> labels;
  for (const SmashedBatch& batch : batches) {
    activations.push_back(batch.activations);
    labels.push_back(batch.labels);
  }
  return {.activations = at::cat(activations, 0), .labels = at::cat(labels, 0)};
}

std::vector<at::Tensor> shuffled_places(const SmashedBatch& batch, int64_t size, uint64_t seed) {
  return at::tensor(random_permutation(batch.examples(), seed), at::kLong).split(size);
}

}  // namespace tandem::aggregator
