#include "tandem/core/training/stage_trainer.h"

#include <torch/torch.h>

#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>

#include "tandem/core/base/slowdown.h"
#include "tandem/core/data/data_description.h"

namespace tandem {
namespace {

// Names in its state.
constexpr const char* kWeights = "weights.";
constexpr const char* kOptimizer = "optimizer.";

std::string stash_prefix(size_t open_step) {
  return "stash." + std::to_string(open_step) + ".";
}

}  // namespace

StageTrainer::StageTrainer(ModelPart stage, StageTrainerOptions options)
    : stage_(std::move(stage)), options_(options), optimizer_(options.optimizer, stage_) {
  if (options_.window < 1) throw std::invalid_argument("StageTrainerOptions.window must be >= 1, got 0");
  stage_.set_training(true);
  if (options_.window > 1) {
    for (uint32_t i = 0; i < options_.window; ++i) stash_.push_back(stage_.clone());
  }
}

Result<void> StageTrainer::begin_round(const NamedTensors& control) {
  open_.clear();
  return optimizer_.begin_round(control);
}

const StageTrainer::OpenStep& StageTrainer::at(Ticket ticket) const {
  const auto found = open_.find(ticket);
  if (found != open_.end()) return found->second;
  throw std::logic_error("StageTrainer: ticket " + std::to_string(ticket) + " is not open");
}

size_t StageTrainer::free_slot() const {
  for (size_t slot = 0; slot < stash_.size(); ++slot) {
    const bool taken =
        std::any_of(open_.begin(), open_.end(), [&](const auto& entry) { return entry.second.slot == slot; });
    if (!taken) return slot;
  }
  throw std::logic_error("StageTrainer: every slot of the window is open");
}

// ---------------------------------------------------------------------------------------------------------
// A step.

at::Tensor StageTrainer::forward(Ticket ticket, const at::Tensor& inputs, InputGradient wanted) {
  if (open_.size() >= options_.window || open_.contains(ticket)) {
    throw std::logic_error("StageTrainer::forward of ticket " + std::to_string(ticket) + ": " +
                           std::to_string(open_.size()) + " are open, the window is " +
                           std::to_string(options_.window));
  }
  const SlowedWork work;
  OpenStep step;
  at::Tensor device_inputs = inputs.to(options_.compute);
  if (wanted == InputGradient::kWanted) {
    device_inputs = step.inputs = device_inputs.detach().requires_grad_();
  }
  if (options_.keeps_statistics) step.statistics = snapshot(stage_.buffers());
  if (stash_.empty()) {
    step.outputs = stage_.forward(device_inputs);
  } else {
    step.slot = free_slot();
    ModelPart& replica = stash_[*step.slot];
    replica.set_training(true);
    copy_values(stage_.state(), replica.state());
    step.outputs = replica.forward(device_inputs);
    // Batch-norm statistics move in the forward pass, in step order; only weights are stashed.
    copy_values(replica.buffers(), stage_.buffers());
  }
  at::Tensor outputs = step.outputs.detach().cpu();
  open_.emplace(ticket, std::move(step));
  return outputs;
}

Result<void> StageTrainer::check_gradient(Ticket ticket, const at::Tensor& gradient) const {
  const at::Tensor& outputs = at(ticket).outputs;
  if (gradient.sizes() != outputs.sizes() || gradient.scalar_type() != outputs.scalar_type()) {
    return Error{ErrorCode::kShapeMismatch, "the gradient has shape " +
                                                shape_to_string(gradient.sizes().vec()) + ", expected " +
                                                shape_to_string(outputs.sizes().vec()) + " float32"};
  }
  if (!at::isfinite(gradient).all().item<bool>()) {
    return Error{ErrorCode::kNonFinite, "the gradient holds NaN or infinity"};
  }
  return {};
}

at::Tensor StageTrainer::backward(Ticket ticket, const at::Tensor& gradient) {
  return finish(ticket, at(ticket).outputs, gradient.to(options_.compute));
}

at::Tensor StageTrainer::backward_from_loss(Ticket ticket, const at::Tensor& loss) {
  (void)at(ticket);
  return finish(ticket, loss, {});
}

at::Tensor StageTrainer::finish(Ticket ticket, const at::Tensor& root, const at::Tensor& gradient) {
  const SlowedWork work;
  const OpenStep& step = at(ticket);
  stage_.zero_grad();
  if (!step.slot) {
    root.backward(gradient);
  } else {
    ModelPart& replica = stash_[*step.slot];
    replica.zero_grad();
    root.backward(gradient);
    const NamedTensors from = replica.parameters();
    NamedTensors to = stage_.parameters();
    for (size_t i = 0; i < to.size(); ++i) to[i].tensor.mutable_grad() = from[i].tensor.grad();
  }
  optimizer_.step();
  at::Tensor input_gradient = step.inputs.defined() ? step.inputs.grad().cpu() : at::Tensor();
  open_.erase(ticket);
  return input_gradient;
}

StageTrainer::LossStep StageTrainer::train(const at::Tensor& inputs, const at::Tensor& labels,
                                           InputGradient wanted) {
  constexpr Ticket kOnly = 0;
  (void)forward(kOnly, inputs, wanted);
  const at::Tensor logits = at(kOnly).outputs;
  const at::Tensor device_labels = labels.to(options_.compute);
  const at::Tensor loss = objective_.mean_loss(logits, device_labels);
  const Figures figures = objective_.figures(logits, device_labels, loss);
  return {.figures = figures, .input_gradient = backward_from_loss(kOnly, loss)};
}

void StageTrainer::drop(Ticket ticket) {
  (void)at(ticket);
  open_.erase(ticket);
}

void StageTrainer::undo(Ticket ticket) {
  if (!options_.keeps_statistics) throw std::logic_error("StageTrainer::undo needs keeps_statistics");
  copy_values(at(ticket).statistics, stage_.buffers());
  open_.erase(ticket);
}

at::Tensor StageTrainer::evaluate(const at::Tensor& inputs) {
  const SlowedWork work;
  const torch::NoGradGuard no_grad;
  stage_.set_training(false);
  at::Tensor outputs = stage_.forward(inputs.to(options_.compute)).cpu();
  stage_.set_training(true);
  return outputs;
}

// ---------------------------------------------------------------------------------------------------------
// State.

NamedTensors StageTrainer::state() const {
  NamedTensors state;
  append(state, stage_.state(), kWeights);
  append(state, optimizer_.state(), kOptimizer);
  size_t index = 0;
  for (const auto& [ticket, step] : open_) {
    if (step.slot) append(state, stash_[*step.slot].parameters(), stash_prefix(index));
    ++index;
  }
  return state;
}

Result<void> StageTrainer::load_state(const NamedTensors& state) {
  open_.clear();
  if (auto loaded = stage_.load(without_prefix(state, kWeights)); !loaded) return loaded;
  return optimizer_.load_state(without_prefix(state, kOptimizer));
}

Result<void> StageTrainer::reopen(const NamedTensors& state, size_t index, Ticket ticket,
                                  const at::Tensor& inputs) {
  // With a window of one nothing is stashed: the weights have not moved since the step was computed.
  const bool moved = options_.window > 1;
  if (!moved && stash_.empty()) stash_.push_back(stage_.clone());
  const NamedTensors stashed = moved ? without_prefix(state, stash_prefix(index)) : stage_.parameters();
  OpenStep step{.slot = free_slot()};
  ModelPart& replica = stash_[*step.slot];
  if (auto fits = check_same_layout(replica.parameters(), stashed); !fits) return fits;
  replica.set_training(true);
  copy_values(stashed, replica.parameters());
  // The statistics that this pass moves are those of the checkpoint already, or are not read in training.
  copy_values(stage_.buffers(), replica.buffers());
  step.outputs = replica.forward(inputs.to(options_.compute));
  open_.emplace(ticket, std::move(step));
  return {};
}

NamedTensors StageTrainer::settled_weights() const {
  NamedTensors state = stage_.state();
  if (open_.empty()) return state;
  for (NamedTensor& entry : state) {
    const at::Tensor* before = find_tensor(open_.begin()->second.statistics, entry.name);
    if (before != nullptr) entry.tensor = *before;
  }
  return state;
}

}  // namespace tandem
