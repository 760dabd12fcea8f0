#include "tandem/edge_client/training/device_trainer.h"

#include <stdexcept>
#include <utility>

namespace tandem::edge_client {
namespace {

using InputGradient = StageTrainer::InputGradient;

// Names in its state.
constexpr const char* kFront = "front.";
constexpr const char* kHead = "head.";
constexpr const char* kAuxiliary = "auxiliary.";
constexpr const char* kKept = "kept.";

std::optional<StageTrainer> trainer_of(const std::optional<ModelPart>& part,
                                       const DeviceTrainerOptions& options) {
  if (!part) return std::nullopt;
  const StageTrainerOptions stage{.optimizer = options.optimizer, .compute = options.compute};
  return std::optional<StageTrainer>(std::in_place, *part, stage);
}

}  // namespace

DeviceTrainer::DeviceTrainer(DeviceModel model, DeviceTrainerOptions options)
    : model_(std::move(model)),
      front_(model_.front,
             {.optimizer = options.optimizer, .compute = options.compute, .window = options.window}),
      head_(trainer_of(model_.head, options)),
      auxiliary_(trainer_of(model_.auxiliary, options)),
      stages_{{kFront, &front_}} {
  if (head_) stages_.push_back({kHead, &*head_});
  if (auxiliary_) stages_.push_back({kAuxiliary, &*auxiliary_});
}

Result<void> DeviceTrainer::begin_round(const NamedTensors& merged, const NamedTensors& control) {
  if (auto loaded = model_.load(merged); !loaded) return loaded;
  for (const auto& [prefix, stage] : stages_) {
    if (auto begun = stage->begin_round(control); !begun) return begun;
  }
  return {};
}

StageTrainer::LossStep DeviceTrainer::train_head(const at::Tensor& outputs, const at::Tensor& labels) {
  if (!head_) throw std::logic_error("DeviceTrainer::train_head: this model has no head here");
  return head_->train(outputs, labels, InputGradient::kWanted);
}

DeviceTrainer::LocalStep DeviceTrainer::train_locally(const at::Tensor& inputs, const at::Tensor& labels) {
  if (!auxiliary_) return {.figures = front_.train(inputs, labels, InputGradient::kNone).figures};
  constexpr Ticket kOnly = 0;
  LocalStep step{.activations = front_.forward(kOnly, inputs)};
  const StageTrainer::LossStep loss = auxiliary_->train(step.activations, labels, InputGradient::kWanted);
  front_.backward(kOnly, loss.input_gradient);
  step.figures = loss.figures;
  return step;
}

NamedTensors DeviceTrainer::end_round() {
  NamedTensors change;
  for (const auto& [prefix, stage] : stages_) append(change, stage->end_round());
  return change;
}

NamedTensors DeviceTrainer::state() const {
  NamedTensors state;
  for (const auto& [prefix, stage] : stages_) append(state, stage->state(), prefix);
  return state;
}

Result<void> DeviceTrainer::load_state(const NamedTensors& state) {
  for (const auto& [prefix, stage] : stages_) {
    if (auto loaded = stage->load_state(without_prefix(state, prefix)); !loaded) return loaded;
  }
  return {};
}

NamedTensors DeviceTrainer::own_state() const {
  NamedTensors state;
  append(state, snapshot(model_.kept()), kKept);
  for (const auto& [prefix, stage] : stages_) append(state, stage->optimizer().state(), prefix);
  return state;
}

Result<void> DeviceTrainer::load_own_state(const NamedTensors& state) {
  if (auto loaded = model_.load_kept(without_prefix(state, kKept)); !loaded) return loaded;
  for (const auto& [prefix, stage] : stages_) {
    if (auto loaded = stage->optimizer().load_state(without_prefix(state, prefix)); !loaded) return loaded;
  }
  return {};
}

Figures DeviceTrainer::evaluate_head(const at::Tensor& outputs, const at::Tensor& labels) {
  return objective_.figures(head_ ? head_->evaluate(outputs) : outputs, labels);
}

}  // namespace tandem::edge_client
