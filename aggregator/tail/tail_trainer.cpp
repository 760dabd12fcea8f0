#include "tandem/aggregator/tail/tail_trainer.h"

#include <ATen/ATen.h>

#include <cmath>
#include <utility>

namespace tandem::aggregator {
namespace {

using InputGradient = StageTrainer::InputGradient;

// A tail has one step under way.
constexpr Ticket kStep = 0;

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
  at::Tensor loss;                   // with its graph
  std::vector<Figures> client;       // in the clients' order
  std::vector<int64_t> client_size;  // examples
};

TailTrainer::TailTrainer(ModelPart tail, TailTrainerOptions options)
    : options_(options),
      stage_(std::move(tail),
             {.optimizer = options.optimizer, .compute = options.compute, .keeps_statistics = true}) {}

TailTrainer::Joined TailTrainer::forward_with_loss(const std::vector<const ClientActivations*>& clients) {
  std::vector<at::Tensor> activations;
  std::vector<at::Tensor> labels;
  Joined joined;
  for (const ClientActivations* client : clients) {
    activations.push_back(client->activations);
    labels.push_back(client->labels);
    joined.client_size.push_back(client->labels.size(0));
  }
  const auto wanted = options_.gradients_go_back ? InputGradient::kWanted : InputGradient::kNone;
  (void)stage_.forward(kStep, join(activations), wanted);
  const at::Tensor joined_labels = join(labels).to(options_.compute);
  joined.loss = objective_.mean_loss(stage_.outputs(kStep), joined_labels);
  joined.client = objective_.figures_of_pieces(stage_.outputs(kStep), joined_labels, joined.client_size);
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

  Joined joined;
  for (;;) {
    if (included.empty()) return results;
    joined = forward_with_loss(included);
    std::vector<const ClientActivations*> kept;
    std::vector<size_t> kept_places;
    for (size_t i = 0; i < included.size(); ++i) {
      const double loss = joined.client[i].mean_loss();
      if (std::isfinite(loss) && loss <= options_.loss_limit) {
        kept.push_back(included[i]);
        kept_places.push_back(places[i]);
      } else {
        results[places[i]].rejection = describe_rejection(loss, options_.loss_limit);
      }
    }
    if (kept.size() == included.size()) break;
    // A forward pass moves batch-norm statistics; a pass that is thrown away must not.
    stage_.undo(kStep);
    included = std::move(kept);
    places = std::move(kept_places);
  }

  const at::Tensor gradient = stage_.backward_from_loss(kStep, joined.loss);
  int64_t total = 0;
  for (const int64_t size : joined.client_size) total += size;
  int64_t offset = 0;
  for (size_t i = 0; i < included.size(); ++i) {
    const int64_t size = joined.client_size[i];
    ClientGradient& result = results[places[i]];
    result.figures = joined.client[i];
    if (gradient.defined()) result.gradient = own_slice(gradient, offset, size, total);
    offset += size;
  }
  return results;
}

std::vector<at::Tensor> TailTrainer::forward(const std::vector<ClientActivations>& clients) {
  std::vector<at::Tensor> parts;
  stage_.drop_all();  // a step whose second half never came
  open_sizes_.clear();
  for (const ClientActivations& client : clients) {
    parts.push_back(client.activations);
    open_sizes_.push_back(client.examples());
  }
  const at::Tensor outputs = stage_.forward(kStep, join(parts), InputGradient::kWanted);
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
    stage_.undo(kStep);
    return results;
  }
  at::Tensor joined = gradients.size() == 1 ? gradients[0] : at::zeros_like(stage_.outputs(kStep), at::kCPU);
  int64_t offset = 0;
  for (size_t i = 0; i < gradients.size() && gradients.size() > 1; offset += open_sizes_[i++]) {
    if (!gradients[i].defined()) continue;
    const double share = static_cast<double>(open_sizes_[i]) / static_cast<double>(total);
    joined.narrow(0, offset, open_sizes_[i]).copy_(gradients[i] * share);
  }
  const at::Tensor gradient = stage_.backward(kStep, joined);
  offset = 0;
  for (size_t i = 0; i < gradients.size(); offset += open_sizes_[i++]) {
    if (gradients[i].defined()) results[i] = own_slice(gradient, offset, open_sizes_[i], total);
  }
  return results;
}

}  // namespace tandem::aggregator
