#include "tandem/edge_client/training/front_trainer.h"

#include <torch/torch.h>

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace tandem::edge_client {
namespace {

// Names in its state.
constexpr const char* kFront = "weights.";
constexpr const char* kOptimizer = "optimizer.";

std::string stash_prefix(size_t open_step) {
  return "stash." + std::to_string(open_step) + ".";
}

}  // namespace

FrontTrainer::FrontTrainer(ModelPart front, FrontTrainerOptions options)
    : front_(std::move(front)), options_(options), optimizer_(options.optimizer, front_) {
  if (options_.window < 1) throw std::invalid_argument("FrontTrainerOptions.window must be >= 1, got 0");
  front_.set_training(true);
  if (options_.window > 1) {
    for (uint32_t i = 0; i < options_.window; ++i) stash_.push_back(front_.clone());
  }
}

Result<void> FrontTrainer::begin_round(const NamedTensors& control) {
  open_.clear();
  return optimizer_.begin_round(control);
}

size_t FrontTrainer::free_slot() const {
  for (size_t slot = 0; slot < stash_.size(); ++slot) {
    const bool taken =
        std::any_of(open_.begin(), open_.end(), [&](const OpenStep& step) { return step.slot == slot; });
    if (!taken) return slot;
  }
  throw std::logic_error("FrontTrainer::forward: every slot of the window is open");
}

void FrontTrainer::copy_buffers(const ModelPart& from, const ModelPart& to) {
  copy_values(from.buffers(), to.buffers());
}

at::Tensor FrontTrainer::forward(const at::Tensor& inputs) {
  if (open_.size() >= options_.window) {
    throw std::logic_error("FrontTrainer::forward: " + std::to_string(open_.size()) +
                           " steps are open, the window is " + std::to_string(options_.window));
  }
  OpenStep step;
  const at::Tensor device_inputs = inputs.to(options_.device);
  if (stash_.empty()) {
    step.output = front_.forward(device_inputs);
  } else {
    step.slot = free_slot();
    ModelPart& replica = stash_[*step.slot];
    replica.set_training(true);
    copy_values(front_.state(), replica.state());
    step.output = replica.forward(device_inputs);
    // Batch-norm statistics move in the forward pass, in step order; only weights are stashed.
    copy_buffers(replica, front_);
  }
  at::Tensor activations = step.output.detach().cpu();
  open_.push_back(std::move(step));
  return activations;
}

Result<void> FrontTrainer::apply(const at::Tensor& gradient) {
  if (open_.empty()) throw std::logic_error("FrontTrainer::apply: no step is open");
  OpenStep& step = open_.front();
  if (gradient.sizes() != step.output.sizes() || gradient.scalar_type() != step.output.scalar_type()) {
    return Error{ErrorCode::kShapeMismatch, "the gradient has shape " +
                                                shape_to_string(gradient.sizes().vec()) + ", expected " +
                                                shape_to_string(step.output.sizes().vec()) + " float32"};
  }
  if (!at::isfinite(gradient).all().item<bool>()) {
    return Error{ErrorCode::kNonFinite, "the gradient holds NaN or infinity"};
  }
  front_.zero_grad();
  if (!step.slot) {
    step.output.backward(gradient.to(options_.device));
  } else {
    ModelPart& replica = stash_[*step.slot];
    replica.zero_grad();
    step.output.backward(gradient.to(options_.device));
    const NamedTensors from = replica.parameters();
    NamedTensors to = front_.parameters();
    for (size_t i = 0; i < to.size(); ++i) to[i].tensor.mutable_grad() = from[i].tensor.grad();
  }
  optimizer_.step();
  open_.pop_front();
  return {};
}

NamedTensors FrontTrainer::state() const {
  NamedTensors state;
  append(state, front_.state(), kFront);
  append(state, optimizer_.state(), kOptimizer);
  for (size_t i = 0; i < open_.size(); ++i) {
    if (open_[i].slot) append(state, stash_[*open_[i].slot].parameters(), stash_prefix(i));
  }
  return state;
}

Result<void> FrontTrainer::load_state(const NamedTensors& state) {
  open_.clear();
  if (auto loaded = front_.load(without_prefix(state, kFront)); !loaded) return loaded;
  return optimizer_.load_state(without_prefix(state, kOptimizer));
}

Result<void> FrontTrainer::reopen(const NamedTensors& state, size_t index, const at::Tensor& inputs) {
  // With a window of one nothing is stashed: the weights have not moved since the step was computed.
  const bool moved = options_.window > 1;
  if (!moved && stash_.empty()) stash_.push_back(front_.clone());
  const NamedTensors stashed = moved ? without_prefix(state, stash_prefix(index)) : front_.parameters();
  OpenStep step{.slot = free_slot()};
  ModelPart& replica = stash_[*step.slot];
  if (auto fits = check_same_layout(replica.parameters(), stashed); !fits) return fits;
  replica.set_training(true);
  copy_values(stashed, replica.parameters());
  // The statistics that this pass moves are those of the checkpoint already, or are not read in training.
  copy_buffers(front_, replica);
  step.output = replica.forward(inputs.to(options_.device));
  open_.push_back(std::move(step));
  return {};
}

void FrontTrainer::skip() {
  if (open_.empty()) throw std::logic_error("FrontTrainer::skip: no step is open");
  open_.pop_front();
}

}  // namespace tandem::edge_client
