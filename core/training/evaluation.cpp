#include "tandem/core/training/evaluation.h"

#include <torch/torch.h>

#include <algorithm>
#include <numeric>
#include <vector>

namespace tandem {

Evaluation evaluate(ModelPart model, const Dataset& dataset, const Augmenter& augmenter, int64_t batch_size,
                    at::Device device) {
  const torch::NoGradGuard no_grad;
  model.set_training(false);
  const int64_t count = dataset.describe().num_examples;
  std::vector<int64_t> indices(static_cast<size_t>(std::min(batch_size, count)));
  double loss_sum = 0;
  int64_t correct = 0;
  for (int64_t first = 0; first < count; first += batch_size) {
    indices.resize(static_cast<size_t>(std::min(batch_size, count - first)));
    std::iota(indices.begin(), indices.end(), first);
    const Batch batch = dataset.get(indices);
    const at::Tensor labels = batch.labels.to(device);
    const at::Tensor logits = model.forward(augmenter.prepare(batch.inputs).to(device));
    loss_sum += torch::cross_entropy_loss(logits, labels, {}, at::Reduction::Sum).item<double>();
    correct += logits.argmax(1).eq(labels).sum().item<int64_t>();
  }
  model.set_training(true);
  return {.loss = loss_sum / static_cast<double>(count),
          .accuracy = static_cast<double>(correct) / static_cast<double>(count),
          .examples = count};
}

}  // namespace tandem
