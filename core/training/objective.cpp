#include "tandem/core/training/objective.h"

#include <torch/torch.h>

namespace tandem {
namespace {

at::Tensor hits(const at::Tensor& logits, const at::Tensor& labels) {
  return logits.argmax(1).eq(labels);
}

uint64_t count(const at::Tensor& hits) {
  return static_cast<uint64_t>(hits.sum().item<int64_t>());
}

Figures from_mean(int64_t examples, double mean_loss, uint64_t correct) {
  return {.examples = static_cast<uint64_t>(examples),
          .loss_sum = mean_loss * static_cast<double>(examples),
          .correct = correct};
}

}  // namespace

at::Tensor Objective::mean_loss(const at::Tensor& logits, const at::Tensor& labels) const {
  return torch::cross_entropy_loss(logits, labels);
}

at::Tensor Objective::summed_loss(const at::Tensor& logits, const at::Tensor& labels) const {
  return torch::cross_entropy_loss(logits, labels, {}, at::Reduction::Sum);
}

Figures Objective::figures(const at::Tensor& logits, const at::Tensor& labels,
                           const at::Tensor& mean_loss) const {
  const torch::NoGradGuard no_grad;
  return from_mean(labels.size(0), mean_loss.item<double>(), count(hits(logits, labels)));
}

Figures Objective::figures(const at::Tensor& logits, const at::Tensor& labels) const {
  const torch::NoGradGuard no_grad;
  return figures(logits, labels, mean_loss(logits, labels));
}

Figures Objective::summed_figures(const at::Tensor& logits, const at::Tensor& labels) const {
  const torch::NoGradGuard no_grad;
  return {.examples = static_cast<uint64_t>(labels.size(0)),
          .loss_sum = summed_loss(logits, labels).item<double>(),
          .correct = count(hits(logits, labels))};
}

std::vector<Figures> Objective::figures_of_pieces(const at::Tensor& logits, const at::Tensor& labels,
                                                  const std::vector<int64_t>& sizes) const {
  const torch::NoGradGuard no_grad;
  const at::Tensor losses = torch::cross_entropy_loss(logits, labels, {}, at::Reduction::None).cpu();
  const at::Tensor all_hits = hits(logits, labels).cpu();
  std::vector<Figures> pieces;
  int64_t offset = 0;
  for (const int64_t size : sizes) {
    pieces.push_back(from_mean(size, losses.narrow(0, offset, size).mean().item<double>(),
                               count(all_hits.narrow(0, offset, size))));
    offset += size;
  }
  return pieces;
}

}  // namespace tandem
