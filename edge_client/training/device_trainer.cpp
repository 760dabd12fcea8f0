#include "tandem/edge_client/training/device_trainer.h"

#include <torch/torch.h>

#include <stdexcept>
#include <utility>

namespace tandem::edge_client {
namespace {

BatchLoss batch_loss(const at::Tensor& logits, const at::Tensor& labels, const at::Tensor& loss) {
  const torch::NoGradGuard no_grad;
  return {.loss = loss.item<double>(),
          .correct = static_cast<uint32_t>(logits.argmax(1).eq(labels).sum().item<int64_t>())};
}

std::optional<PartOptimizer> optimizer_for(const std::optional<ModelPart>& part,
                                           const DeviceTrainerOptions& options) {
  if (!part) return std::nullopt;
  return std::optional<PartOptimizer>(std::in_place, options.optimizer, *part);
}

// Names in its state.
constexpr const char* kFront = "front.";
constexpr const char* kHead = "head.";
constexpr const char* kAuxiliary = "auxiliary.";
constexpr const char* kWeights = "weights.";
constexpr const char* kOptimizer = "optimizer.";

void append_part(NamedTensors& all, const std::string& name, const std::optional<ModelPart>& part,
                 const std::optional<PartOptimizer>& optimizer) {
  if (!part) return;
  append(all, part->state(), name + kWeights);
  append(all, optimizer->state(), name + kOptimizer);
}

Result<void> load_part(const NamedTensors& state, const std::string& name, std::optional<ModelPart>& part,
                       std::optional<PartOptimizer>& optimizer) {
  if (!part) return {};
  if (auto loaded = part->load(without_prefix(state, name + kWeights)); !loaded) return loaded;
  return optimizer->load_state(without_prefix(state, name + kOptimizer));
}

}  // namespace

DeviceTrainer::DeviceTrainer(DeviceModel model, DeviceTrainerOptions options)
    : model_(std::move(model)),
      options_(options),
      front_trainer_(model_.front,
                     {.optimizer = options.optimizer, .device = options.device, .window = options.window}),
      head_optimizer_(optimizer_for(model_.head, options)),
      auxiliary_optimizer_(optimizer_for(model_.auxiliary, options)) {
  if (model_.head) model_.head->set_training(true);
  if (model_.auxiliary) model_.auxiliary->set_training(true);
}

Result<void> DeviceTrainer::begin_round(const NamedTensors& merged, const NamedTensors& control) {
  if (auto loaded = model_.load(merged); !loaded) return loaded;
  if (auto begun = front_trainer_.begin_round(control); !begun) return begun;
  if (head_optimizer_) {
    if (auto begun = head_optimizer_->begin_round(control); !begun) return begun;
  }
  if (auxiliary_optimizer_) {
    if (auto begun = auxiliary_optimizer_->begin_round(control); !begun) return begun;
  }
  return {};
}

DeviceTrainer::HeadStep DeviceTrainer::train_head(const at::Tensor& outputs, const at::Tensor& labels) {
  if (!model_.head) throw std::logic_error("DeviceTrainer::train_head: this model has no head here");
  const at::Tensor leaf = outputs.to(options_.device).detach().requires_grad_();
  const at::Tensor device_labels = labels.to(options_.device);
  const at::Tensor logits = model_.head->forward(leaf);
  const at::Tensor loss = torch::cross_entropy_loss(logits, device_labels);
  model_.head->zero_grad();
  loss.backward();
  head_optimizer_->step();
  return {.result = batch_loss(logits, device_labels, loss), .gradient = leaf.grad().cpu()};
}

DeviceTrainer::LocalStep DeviceTrainer::train_locally(const at::Tensor& inputs, const at::Tensor& labels) {
  const at::Tensor device_labels = labels.to(options_.device);
  const at::Tensor activations = model_.front.forward(inputs.to(options_.device));
  const at::Tensor logits = model_.auxiliary ? model_.auxiliary->forward(activations) : activations;
  const at::Tensor loss = torch::cross_entropy_loss(logits, device_labels);
  model_.front.zero_grad();
  if (model_.auxiliary) model_.auxiliary->zero_grad();
  loss.backward();
  LocalStep step{.result = batch_loss(logits, device_labels, loss),
                 .activations = activations.detach().cpu()};
  front_trainer_.optimizer().step();
  if (auxiliary_optimizer_) auxiliary_optimizer_->step();
  return step;
}

NamedTensors DeviceTrainer::end_round() {
  NamedTensors change = front_trainer_.optimizer().end_round();
  if (head_optimizer_) append(change, head_optimizer_->end_round());
  if (auxiliary_optimizer_) append(change, auxiliary_optimizer_->end_round());
  return change;
}

NamedTensors DeviceTrainer::state() const {
  NamedTensors state;
  append(state, front_trainer_.state(), kFront);
  append_part(state, kHead, model_.head, head_optimizer_);
  append_part(state, kAuxiliary, model_.auxiliary, auxiliary_optimizer_);
  return state;
}

Result<void> DeviceTrainer::load_state(const NamedTensors& state) {
  if (auto loaded = front_trainer_.load_state(without_prefix(state, kFront)); !loaded) return loaded;
  if (auto loaded = load_part(state, kHead, model_.head, head_optimizer_); !loaded) return loaded;
  return load_part(state, kAuxiliary, model_.auxiliary, auxiliary_optimizer_);
}

at::Tensor DeviceTrainer::evaluate_front(const at::Tensor& inputs) {
  const torch::NoGradGuard no_grad;
  model_.front.set_training(false);
  at::Tensor activations = model_.front.forward(inputs.to(options_.device)).cpu();
  model_.front.set_training(true);
  return activations;
}

BatchLoss DeviceTrainer::evaluate_head(const at::Tensor& outputs, const at::Tensor& labels) {
  const torch::NoGradGuard no_grad;
  const at::Tensor device_labels = labels.to(options_.device);
  at::Tensor logits = outputs.to(options_.device);
  if (model_.head) {
    model_.head->set_training(false);
    logits = model_.head->forward(logits);
    model_.head->set_training(true);
  }
  return batch_loss(logits, device_labels, torch::cross_entropy_loss(logits, device_labels));
}

}  // namespace tandem::edge_client
