#include "tandem/core/training/evaluation.h"

#include <torch/torch.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include "tandem/core/training/objective.h"

namespace tandem {

Figures evaluate(ModelPart model, const Dataset& dataset, const Augmenter& augmenter, int64_t batch_size,
                 at::Device compute) {
  const torch::NoGradGuard no_grad;
  model.set_training(false);
  const int64_t count = dataset.describe().num_examples;
  std::vector<int64_t> indices(static_cast<size_t>(std::min(batch_size, count)));
  const Objective objective;
  Figures figures;
  for (int64_t first = 0; first < count; first += batch_size) {
    indices.resize(static_cast<size_t>(std::min(batch_size, count - first)));
    std::iota(indices.begin(), indices.end(), first);
    const Batch batch = dataset.get(indices);
    const at::Tensor labels = batch.labels.to(compute);
    const at::Tensor logits = model.forward(augmenter.prepare(batch.inputs).to(compute));
    figures += objective.summed_figures(logits, labels);
  }
  model.set_training(true);
  return figures;
}

}  // namespace tandem
