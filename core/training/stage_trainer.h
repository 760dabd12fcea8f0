#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include "tandem/core/base/result.h"
#include "tandem/core/model/model.h"
#include "tandem/core/training/figures.h"
#include "tandem/core/training/objective.h"
#include "tandem/core/training/part_optimizer.h"

namespace tandem {

/// Names a step of a stage whose second half is still to come. The caller chooses the number.
using Ticket = uint32_t;

struct StageTrainerOptions {
  PartOptimizer::Options optimizer;
  at::Device compute = at::kCPU;
  /// Tickets that may be open at once, >= 1.
  uint32_t window = 1;
  /// Keeps the statistics of batch norm from before each step, so that `undo` can bring them back.
  bool keeps_statistics = false;
};

/// Trains one stage, a range of a model's blocks: a forward pass, a gradient that comes back for its outputs,
/// a step of its optimiser, and the gradient of its inputs for the stage in front. Where several tickets are
/// open, each keeps the weights it was computed with (weight stashing, PipeDream, Narayanan et al. 2019,
/// section 3.3), so that every gradient is a true gradient, up to window - 1 steps old. Not thread-safe;
/// lives on its owner's compute thread. Tensors that come in and go out are on the CPU.
class StageTrainer {
 public:
  /// Throws std::invalid_argument for a window of 0. The stage is in training mode from here on.
  StageTrainer(ModelPart stage, StageTrainerOptions options);

  /// The merged weights were loaded into the stage: open tickets are dropped, the optimiser keeps its state.
  /// `control` is SCAFFOLD's c and may hold tensors of other stages.
  Result<void> begin_round(const NamedTensors& control);
  /// SCAFFOLD: returns the change of the control variates in this round; empty without.
  NamedTensors end_round() { return optimizer_.end_round(); }

  enum class InputGradient : bool { kNone, kWanted };
  /// Computes the outputs of a new step, float32 [n, ...], detached; nobody writes them afterwards. Throws
  /// std::logic_error when `window` tickets are open or this one is.
  at::Tensor forward(Ticket ticket, const at::Tensor& inputs, InputGradient wanted = InputGradient::kNone);
  /// Checks a gradient that a peer sent for the outputs of an open step: kShapeMismatch or kNonFinite.
  Result<void> check_gradient(Ticket ticket, const at::Tensor& gradient) const;
  /// Finishes a step from the gradient of its outputs: backward, one optimiser step. Returns the gradient of
  /// the inputs; undefined where it was not wanted.
  at::Tensor backward(Ticket ticket, const at::Tensor& gradient);
  /// Ends a step without a gradient.
  void drop(Ticket ticket);
  void drop_all() { open_.clear(); }
  /// Ends a step as if it had never been: the statistics of batch norm are those from before it. Requires
  /// `keeps_statistics`.
  void undo(Ticket ticket);

  /// The stage that ends in the loss: returns the outputs of an open step with their graph, on the compute
  /// device.
  const at::Tensor& outputs(Ticket ticket) const { return at(ticket).outputs; }
  /// Finishes a step from a loss that was computed from `outputs(ticket)`; returns as `backward`.
  at::Tensor backward_from_loss(Ticket ticket, const at::Tensor& loss);
  struct LossStep {
    Figures figures;
    at::Tensor input_gradient;  ///< of the mean loss; undefined where it was not wanted
  };
  /// Makes a whole step on the mean loss of the outputs against `labels`.
  LossStep train(const at::Tensor& inputs, const at::Tensor& labels, InputGradient wanted);

  /// Returns the outputs in evaluation mode, without gradients; training mode again afterwards.
  at::Tensor evaluate(const at::Tensor& inputs);

  size_t open_tickets() const { return open_.size(); }

  /// Returns what a checkpoint keeps: the stage, its optimiser, and the stashed weights of each open ticket.
  NamedTensors state() const;
  /// Restores what `state` returned, with no ticket open: each that was is opened by `reopen`, in order.
  Result<void> load_state(const NamedTensors& state);
  /// Computes the open step number `index` of the state again, on its inputs and with its stashed weights;
  /// with a window of 1 those are the stage's own.
  Result<void> reopen(const NamedTensors& state, size_t index, Ticket ticket, const at::Tensor& inputs);
  /// Returns the stage's weights and statistics as they were before the open step, with `keeps_statistics`.
  /// Aliases but for the statistics.
  NamedTensors settled_weights() const;

  const ModelPart& stage() const { return stage_; }
  ModelPart& stage() { return stage_; }
  PartOptimizer& optimizer() { return optimizer_; }
  const PartOptimizer& optimizer() const { return optimizer_; }

 private:
  struct OpenStep {
    std::optional<size_t> slot;  // index into stash_; none when the stage itself was used
    at::Tensor inputs;           // leaf that receives the gradient; undefined where none is wanted
    at::Tensor outputs;          // with their graph
    NamedTensors statistics;     // from before, with keeps_statistics
  };

  const OpenStep& at(Ticket ticket) const;
  size_t free_slot() const;
  at::Tensor finish(Ticket ticket, const at::Tensor& root, const at::Tensor& gradient);

  ModelPart stage_;
  StageTrainerOptions options_;
  PartOptimizer optimizer_;
  Objective objective_;
  std::vector<ModelPart> stash_;  // window replicas; empty for window 1
  std::map<Ticket, OpenStep> open_;
};

}  // namespace tandem
