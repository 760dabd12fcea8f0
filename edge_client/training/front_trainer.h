#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include "tandem/core/base/result.h"
#include "tandem/core/data/data_description.h"
#include "tandem/core/model/model.h"
#include "tandem/core/training/part_optimizer.h"

namespace tandem::edge_client {

struct FrontTrainerOptions {
  PartOptimizer::Options optimizer;
  at::Device device = at::kCPU;
  /// Steps that may be open at once, >= 1.
  uint32_t window = 1;
};

/// The front's half of each step. Several steps may be open: the weights each was computed with are kept
/// (weight stashing, PipeDream, Narayanan et al. 2019, section 3.3), so that every gradient is a true
/// gradient, W - 1 steps old, applied strictly in step order. Not thread-safe; lives on the compute thread.
class FrontTrainer {
 public:
  FrontTrainer(ModelPart front, FrontTrainerOptions options);

  /// The merged weights were loaded into the front: open steps are dropped, the optimiser keeps its state.
  Result<void> begin_round(const NamedTensors& control);

  /// Activations of a new step, float32 [n, ...] on the CPU, detached; nobody writes them afterwards.
  /// Throws std::logic_error when `window` steps are open.
  at::Tensor forward(const at::Tensor& inputs);

  /// Finishes the oldest open step: backward from the gradient at the cut, one optimiser step.
  /// kShapeMismatch or kNonFinite leave the weights alone and the step open.
  Result<void> apply(const at::Tensor& gradient);

  /// Finishes the oldest open step without a gradient.
  void skip();

  size_t open_steps() const { return open_.size(); }

  /// What a checkpoint keeps: the front, its optimiser, and the stashed weights of each open step.
  NamedTensors state() const;
  /// The reverse, with no step open: each that was is opened by `reopen`, oldest first.
  Result<void> load_state(const NamedTensors& state);
  /// Computes the open step `index` of the state again, on its batch and with its stashed weights; with a
  /// window of 1 those are the front's own.
  Result<void> reopen(const NamedTensors& state, size_t index, const at::Tensor& inputs);

  PartOptimizer& optimizer() { return optimizer_; }
  const PartOptimizer& optimizer() const { return optimizer_; }

 private:
  struct OpenStep {
    std::optional<size_t> slot;  // index into stash_; none when the front itself was used
    at::Tensor output;           // with its graph
  };

  size_t free_slot() const;
  void copy_buffers(const ModelPart& from, const ModelPart& to);

  ModelPart front_;
  FrontTrainerOptions options_;
  PartOptimizer optimizer_;
  std::vector<ModelPart> stash_;  // window replicas; empty for window 1
  std::deque<OpenStep> open_;
};

}  // namespace tandem::edge_client
