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
      auxiliary_(trainer_of(model_.auxiliary, options)) {}

Result<void> DeviceTrainer::begin_round(const NamedTensors& merged, const NamedTensors& control) {
  if (auto loaded = model_.load(merged); !loaded) return loaded;
  if (auto begun = front_.begin_round(control); !begun) return begun;
  if (head_) {
    if (auto begun = head_->begin_round(control); !begun) return begun;
  }
  return auxiliary_ ? auxiliary_->begin_round(control) : Result<void>();
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
  NamedTensors change = front_.end_round();
  if (head_) append(change, head_->end_round());
  if (auxiliary_) append(change, auxiliary_->end_round());
  return change;
}

NamedTensors DeviceTrainer::state() const {
  NamedTensors state;
  append(state, front_.state(), kFront);
  if (head_) append(state, head_->state(), kHead);
  if (auxiliary_) append(state, auxiliary_->state(), kAuxiliary);
  return state;
}

Result<void> DeviceTrainer::load_state(const NamedTensors& state) {
  if (auto loaded = front_.load_state(without_prefix(state, kFront)); !loaded) return loaded;
  if (head_) {
    if (auto loaded = head_->load_state(without_prefix(state, kHead)); !loaded) return loaded;
  }
  return auxiliary_ ? auxiliary_->load_state(without_prefix(state, kAuxiliary)) : Result<void>();
}

NamedTensors DeviceTrainer::own_state() const {
  NamedTensors state;
  append(state, snapshot(model_.kept()), kKept);
  append(state, front_.optimizer().state(), kFront);
  if (head_) append(state, head_->optimizer().state(), kHead);
  if (auxiliary_) append(state, auxiliary_->optimizer().state(), kAuxiliary);
  return state;
}

Result<void> DeviceTrainer::load_own_state(const NamedTensors& state) {
  if (auto loaded = model_.load_kept(without_prefix(state, kKept)); !loaded) return loaded;
  if (auto loaded = front_.optimizer().load_state(without_prefix(state, kFront)); !loaded) return loaded;
  if (head_) {
    if (auto loaded = head_->optimizer().load_state(without_prefix(state, kHead)); !loaded) return loaded;
  }
  if (!auxiliary_) return {};
  return auxiliary_->optimizer().load_state(without_prefix(state, kAuxiliary));
}

Figures DeviceTrainer::evaluate_head(const at::Tensor& outputs, const at::Tensor& labels) {
  return objective_.figures(head_ ? head_->evaluate(outputs) : outputs, labels);
}

}  // namespace tandem::edge_client
