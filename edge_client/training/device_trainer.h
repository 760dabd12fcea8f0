#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include "tandem/core/base/result.h"
#include "tandem/core/training/device_model.h"
#include "tandem/core/training/figures.h"
#include "tandem/core/training/part_optimizer.h"
#include "tandem/core/training/stage_trainer.h"

namespace tandem::edge_client {

struct DeviceTrainerOptions {
  PartOptimizer::Options optimizer;  ///< each stage has its own, with its own state
  at::Device compute = at::kCPU;
  uint32_t window = 1;
};

/// Trains what a device holds of the model, in one of three ways that the plan chooses:
/// with gradients from the tail (`front()`), U-shaped (`front()` and `train_head`), or on its own loss
/// (`train_locally`). Not thread-safe; lives on the compute thread.
class DeviceTrainer {
 public:
  DeviceTrainer(DeviceModel model, DeviceTrainerOptions options);

  /// Starts a round from what was merged; optimisers keep their state. kShapeMismatch or kNonFinite name
  /// the tensor, and then nothing has changed.
  Result<void> begin_round(const NamedTensors& merged, const NamedTensors& control);

  /// The front's half of each step.
  StageTrainer& front() { return front_; }

  /// U-shaped: makes one step of the head on the tail's outputs. The gradient is that of the mean loss with
  /// respect to the outputs. Requires a head.
  StageTrainer::LossStep train_head(const at::Tensor& outputs, const at::Tensor& labels);

  struct LocalStep {
    Figures figures;
    at::Tensor activations;  ///< at the cut, before the step; detached, CPU
  };
  /// One step of everything the device holds on its own loss: that of the auxiliary head, or without one
  /// of the front, which then is the whole model.
  LocalStep train_locally(const at::Tensor& inputs, const at::Tensor& labels);

  /// What travels back, as a snapshot on the CPU.
  NamedTensors weights() const { return cpu_snapshot(model_.exchanged()); }
  /// SCAFFOLD: change of the control variates in this round; empty without.
  NamedTensors end_round();

  // Evaluation: no gradients, evaluation mode, training mode again afterwards.
  at::Tensor evaluate_front(const at::Tensor& inputs) { return front_.evaluate(inputs); }
  Figures evaluate_head(const at::Tensor& outputs, const at::Tensor& labels);
  /// What a checkpoint keeps: weights and buffers, whatever of them stays here, and the optimisers.
  NamedTensors state() const;
  /// Restores what `state` returned; steps that were open are opened by front().reopen().
  Result<void> load_state(const NamedTensors& state);

  /// Returns what is this client's own between two rounds: the optimisers and what never leaves the device.
  /// No other trainer of the same model changes it.
  NamedTensors own_state() const;
  /// Restores what `own_state` returned.
  Result<void> load_own_state(const NamedTensors& state);
  /// The model that is trained, whose weights the handle shares.
  const DeviceModel& model() const { return model_; }

  /// Loads weights to evaluate; the round that follows loads its own.
  Result<void> load(const NamedTensors& merged) { return model_.load(merged); }

 private:
  DeviceModel model_;
  StageTrainer front_;
  std::optional<StageTrainer> head_;
  std::optional<StageTrainer> auxiliary_;
  /// The three above, as far as they are there, each with the prefix of its tensors in a state.
  std::vector<std::pair<const char*, StageTrainer*>> stages_;
  Objective objective_;
};

}  // namespace tandem::edge_client
