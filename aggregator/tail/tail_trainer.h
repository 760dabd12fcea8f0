#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include "tandem/core/base/ids.h"
#include "tandem/core/model/model.h"
#include "tandem/core/training/stage_trainer.h"

namespace tandem::aggregator {

/// One client's smashed data for a step.
struct ClientActivations {
  ClientId client;
  uint32_t step = 0;       ///< in the client's own numbers
  at::Tensor activations;  ///< float32 [B_k, ...], CPU
  at::Tensor labels;       ///< int64 [B_k], CPU; [0] for a U-shaped model
  /// Of the message they came in, part of the key under which its reply is kept.
  uint64_t payload_hash = 0;
  /// The block that takes them: the client's cut. 0 stands for the tail's first block.
  int entry = 0;

  int64_t examples() const { return activations.size(0); }
};

/// What goes back to that client.
struct ClientGradient {
  ClientId client;
  /// Gradient of the client's own mean loss; undefined when it was taken out or none goes back.
  at::Tensor gradient;
  Figures figures;
  /// Why the client was taken out of the step; empty when it was not.
  std::string rejection;
};

struct TailTrainerOptions {
  PartOptimizer::Options optimizer;
  at::Device compute = at::kCPU;
  /// A client whose mean loss is above this, or not finite, is taken out of the step.
  double loss_limit = 1e4;
  /// Whether clients get gradients; not where they train on their own loss.
  bool gradients_go_back = true;
};

/// Trains one tail, on one client's activations or on joined ones (PSL, server-side batch): A = [a_1; ...;
/// a_K], one forward and backward with loss sum_k (B_k/B) L_k, one optimiser step; client k receives B/B_k
/// times its slice of dL/dA, the gradient of its own mean loss.
///
/// Where clients have different cuts their activations enter at different blocks. The tail is then a chain of
/// stages, one from each entry to the next. A stage takes the outputs of the one before it and the
/// activations that enter there, joined in the clients' order: S examples. It steps on the mean loss of
/// these, so its gradient is B/S times that of the joined loss, and makes no step where S is 0. To the stage
/// that follows it is one more client, with S examples. No client holds the blocks of the last of several
/// stages, so drift correction leaves that one alone.
///
/// Not thread-safe; lives on the trainer thread.
class TailTrainer {
 public:
  /// `entries`: the blocks at which activations enter, in ascending order, the first block of `tail` first.
  /// Throws std::invalid_argument for others.
  TailTrainer(ModelPart tail, std::vector<int> entries, TailTrainerOptions options);
  /// A tail that all activations enter at its first block.
  TailTrainer(ModelPart tail, TailTrainerOptions options);

  /// The weights of a new round were loaded; see StageTrainer::begin_round and end_round.
  Result<void> begin_round(const NamedTensors& control);
  NamedTensors end_round();

  /// One step on the joined batch, clients in the order given (the caller's: client-id order). A client
  /// with a loss that is not finite or above the limit is taken out and the step is computed again
  /// without it before anything is updated; with nobody left nothing is updated.
  std::vector<ClientGradient> step(const std::vector<ClientActivations>& clients);

  /// U-shaped, first half of a step: the outputs for each client, CPU. The graph is kept for `backward`.
  /// Requires one entry.
  std::vector<at::Tensor> forward(const std::vector<ClientActivations>& clients);
  /// Second half: from the gradients of each client's own mean loss with respect to its outputs, in the
  /// order of `forward`; an undefined one takes the client out. One optimiser step, unless all are out.
  std::vector<at::Tensor> backward(const std::vector<at::Tensor>& gradients);

  /// Outputs in evaluation mode for activations that enter at that block, without gradients, CPU.
  at::Tensor evaluate(const at::Tensor& activations, int entry = 0);

  /// The tail's weights and buffers as a checkpoint keeps them: an open step has not moved the statistics of
  /// batch norm. Aliases but for those.
  NamedTensors settled_state() const;
  /// What the optimisers keep: with several stages, each behind "entry-N.", N being its first block.
  NamedTensors optimizer_state() const;
  /// Restores what `optimizer_state` returned. An error may leave a part of it loaded.
  Result<void> load_optimizer_state(const NamedTensors& state);

  const ModelPart& tail() const { return tail_; }
  ModelPart& tail() { return tail_; }
  /// Steps of the tail's last stage, which takes part in every step.
  int64_t applied_steps() const { return stages_.back().optimizer().applied_steps(); }

 private:
  struct Pass;
  Pass forward_with_loss(const std::vector<const ClientActivations*>& clients);
  void undo(const Pass& pass);
  std::vector<at::Tensor> backward(const Pass& pass);
  size_t stage_of(int entry) const;

  TailTrainerOptions options_;
  ModelPart tail_;
  std::deque<StageTrainer> stages_;  // each from one entry to the next
  Objective objective_;
  std::vector<int64_t> open_sizes_;  // between forward and backward of a U-shaped step
};

}  // namespace tandem::aggregator
