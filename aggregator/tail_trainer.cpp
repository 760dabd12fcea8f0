#include "tandem/aggregator/tail_trainer.h"

#include <torch/torch.h>

#include <cmath>
#include <utility>

namespace tandem::aggregator {
namespace {

at::Tensor join(const std::vector<at::Tensor>& parts) {
  // A single client's tensor stays what it is, so that one client equals the unsplit model to the bit.
  return parts.size() == 1 ? parts.front() : at::cat(parts, 0);
}

std::string describe_rejection(double loss, double limit) {
  return "its mean loss is " + std::to_string(loss) + ", expected a finite value up to " +
         std::to_string(limit);
}

}  // namespace

struct TailTrainer::Joined {
  at::Tensor activations;  // leaf that receives dL/dA
  at::Tensor loss;
  std::vector<double> client_loss;
  std::vector<uint32_t> client_correct;
};

TailTrainer::TailTrainer(ModelPart tail, TailTrainerOptions options)
    : tail_(std::move(tail)), options_(options), optimizer_(options.optimizer, tail_.parameters()) {
  tail_.set_training(true);
}

TailTrainer::Joined TailTrainer::forward(const std::vector<const ClientActivations*>& clients) {
  std::vector<at::Tensor> activations;
  std::vector<at::Tensor> labels;
  for (const ClientActivations* client : clients) {
    activations.push_back(client->activations);
    labels.push_back(client->labels);
  }
  Joined joined;
  joined.activations = join(activations).to(options_.device).detach().requires_grad_();
  const at::Tensor joined_labels = join(labels).to(options_.device);
  const at::Tensor logits = tail_.forward(joined.activations);
  joined.loss = torch::cross_entropy_loss(logits, joined_labels);

  const torch::NoGradGuard no_grad;
  const at::Tensor losses = torch::cross_entropy_loss(logits, joined_labels, {}, at::Reduction::None).cpu();
  const at::Tensor hits = logits.argmax(1).eq(joined_labels).cpu();
  int64_t offset = 0;
  for (const ClientActivations* client : clients) {
    const int64_t size = client->labels.size(0);
    joined.client_loss.push_back(losses.narrow(0, offset, size).mean().item<double>());
    joined.client_correct.push_back(
        static_cast<uint32_t>(hits.narrow(0, offset, size).sum().item<int64_t>()));
    offset += size;
  }
  return joined;
}

std::vector<ClientGradient> TailTrainer::step(const std::vector<ClientActivations>& clients) {
  std::vector<ClientGradient> results(clients.size());
  std::vector<const ClientActivations*> included;
  std::vector<size_t> places;
  for (size_t i = 0; i < clients.size(); ++i) {
    results[i].client = clients[i].client;
    included.push_back(&clients[i]);
    places.push_back(i);
  }

  // A forward pass moves batch-norm statistics; a pass that is thrown away must not.
  const NamedTensors statistics = snapshot(tail_.buffers());
  Joined joined;
  for (;;) {
    if (included.empty()) return results;
    joined = forward(included);
    std::vector<const ClientActivations*> kept;
    std::vector<size_t> kept_places;
    for (size_t i = 0; i < included.size(); ++i) {
      const double loss = joined.client_loss[i];
      if (std::isfinite(loss) && loss <= options_.loss_limit) {
        kept.push_back(included[i]);
        kept_places.push_back(places[i]);
      } else {
        results[places[i]].rejection = describe_rejection(loss, options_.loss_limit);
      }
    }
    if (kept.size() == included.size()) break;
    const torch::NoGradGuard no_grad;
    NamedTensors buffers = tail_.buffers();
    for (size_t i = 0; i < buffers.size(); ++i) buffers[i].tensor.copy_(statistics[i].tensor);
    included = std::move(kept);
    places = std::move(kept_places);
  }

  tail_.zero_grad();
  joined.loss.backward();
  optimizer_.step(lr_factor(options_.lr_schedule, optimizer_.applied_steps()));

  const at::Tensor gradient = joined.activations.grad().cpu();
  const int64_t total = gradient.size(0);
  int64_t offset = 0;
  for (size_t i = 0; i < included.size(); ++i) {
    const int64_t size = included[i]->labels.size(0);
    ClientGradient& result = results[places[i]];
    result.loss = joined.client_loss[i];
    result.correct = joined.client_correct[i];
    result.gradient = included.size() == 1 ? gradient
                                           : gradient.narrow(0, offset, size) *
                                                 (static_cast<double>(total) / static_cast<double>(size));
    offset += size;
  }
  return results;
}

}  // namespace tandem::aggregator
