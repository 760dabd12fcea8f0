#include "tandem/aggregator/tail/tail_trainer.h"

#include <torch/torch.h>

#include <cmath>
#include <utility>

namespace tandem::aggregator {
namespace {

at::Tensor join(const std::vector<at::Tensor>& parts) {
  // A single client's tensor stays what it is, so that one client equals the unsplit model to the bit.
  return parts.size() == 1 ? parts.front() : at::cat(parts, 0);
}

/// Client k's part of a joined gradient as that of its own mean: B/B_k times the slice.
at::Tensor own_slice(const at::Tensor& joined, int64_t offset, int64_t size, int64_t total) {
  if (size == joined.size(0)) return joined;
  return joined.narrow(0, offset, size) * (static_cast<double>(total) / static_cast<double>(size));
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
    : tail_(std::move(tail)), options_(options), optimizer_(options.optimizer, tail_) {
  tail_.set_training(true);
}

TailTrainer::Joined TailTrainer::forward_with_loss(const std::vector<const ClientActivations*>& clients) {
  std::vector<at::Tensor> activations;
  std::vector<at::Tensor> labels;
  for (const ClientActivations* client : clients) {
    activations.push_back(client->activations);
    labels.push_back(client->labels);
  }
  Joined joined;
  joined.activations = join(activations).to(options_.device).detach();
  if (options_.gradients_go_back) joined.activations.requires_grad_();
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
    joined = forward_with_loss(included);
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
    copy_values(statistics, tail_.buffers());
    included = std::move(kept);
    places = std::move(kept_places);
  }

  update(joined.loss, {});

  const int64_t total = joined.activations.size(0);
  const at::Tensor gradient = options_.gradients_go_back ? joined.activations.grad().cpu() : at::Tensor();
  int64_t offset = 0;
  for (size_t i = 0; i < included.size(); ++i) {
    const int64_t size = included[i]->labels.size(0);
    ClientGradient& result = results[places[i]];
    result.loss = joined.client_loss[i];
    result.correct = joined.client_correct[i];
    if (options_.gradients_go_back) result.gradient = own_slice(gradient, offset, size, total);
    offset += size;
  }
  return results;
}

void TailTrainer::update(const at::Tensor& root, const at::Tensor& gradient) {
  tail_.zero_grad();
  root.backward(gradient);
  optimizer_.step();
}

std::vector<at::Tensor> TailTrainer::forward(const std::vector<ClientActivations>& clients) {
  std::vector<at::Tensor> parts;
  open_sizes_.clear();
  for (const ClientActivations& client : clients) {
    parts.push_back(client.activations);
    open_sizes_.push_back(client.examples());
  }
  open_statistics_ = snapshot(tail_.buffers());
  open_activations_ = join(parts).to(options_.device).detach().requires_grad_();
  open_outputs_ = tail_.forward(open_activations_);
  const at::Tensor outputs = open_outputs_.detach().cpu();
  std::vector<at::Tensor> slices;
  int64_t offset = 0;
  for (const int64_t size : open_sizes_) {
    slices.push_back(size == outputs.size(0) ? outputs : outputs.narrow(0, offset, size));
    offset += size;
  }
  return slices;
}

std::vector<at::Tensor> TailTrainer::backward(const std::vector<at::Tensor>& gradients) {
  std::vector<at::Tensor> results(gradients.size());
  int64_t total = 0;
  for (size_t i = 0; i < gradients.size(); ++i) {
    if (gradients[i].defined()) total += open_sizes_[i];
  }
  if (total == 0) {
    copy_values(open_statistics_, tail_.buffers());  // as if the step had never been
    open_outputs_ = open_activations_ = at::Tensor();
    return results;
  }
  at::Tensor joined = gradients.size() == 1 ? gradients[0] : at::zeros_like(open_outputs_, at::kCPU);
  int64_t offset = 0;
  for (size_t i = 0; i < gradients.size() && gradients.size() > 1; offset += open_sizes_[i++]) {
    if (!gradients[i].defined()) continue;
    const double share = static_cast<double>(open_sizes_[i]) / static_cast<double>(total);
    joined.narrow(0, offset, open_sizes_[i]).copy_(gradients[i] * share);
  }
  update(open_outputs_, joined.to(options_.device));
  const at::Tensor gradient = open_activations_.grad().cpu();
  offset = 0;
  for (size_t i = 0; i < gradients.size(); offset += open_sizes_[i++]) {
    if (gradients[i].defined()) results[i] = own_slice(gradient, offset, open_sizes_[i], total);
  }
  open_outputs_ = open_activations_ = at::Tensor();
  return results;
}

NamedTensors TailTrainer::settled_state() const {
  NamedTensors state = tail_.state();
  if (!open_outputs_.defined()) return state;
  for (NamedTensor& entry : state) {
    if (const at::Tensor* before = find_tensor(open_statistics_, entry.name)) entry.tensor = *before;
  }
  return state;
}

at::Tensor TailTrainer::evaluate(const at::Tensor& activations) {
  const torch::NoGradGuard no_grad;
  tail_.set_training(false);
  at::Tensor outputs = tail_.forward(activations.to(options_.device)).cpu();
  tail_.set_training(true);
  return outputs;
}

}  // namespace tandem::aggregator
