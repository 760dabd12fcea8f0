#pragma once

#include <cstdint>
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
/// times its slice of dL/dA, the gradient of its own mean loss. Not thread-safe; lives on the trainer thread.
class TailTrainer {
 public:
  TailTrainer(ModelPart tail, TailTrainerOptions options);

  /// One step on the joined batch, clients in the order given (the caller's: client-id order). A client
  /// with a loss that is not finite or above the limit is taken out and the step is computed again
  /// without it before anything is updated; with nobody left nothing is updated.
  std::vector<ClientGradient> step(const std::vector<ClientActivations>& clients);

  /// U-shaped, first half of a step: the outputs for each client, CPU. The graph is kept for `backward`.
  std::vector<at::Tensor> forward(const std::vector<ClientActivations>& clients);
  /// Second half: from the gradients of each client's own mean loss with respect to its outputs, in the
  /// order of `forward`; an undefined one takes the client out. One optimiser step, unless all are out.
  std::vector<at::Tensor> backward(const std::vector<at::Tensor>& gradients);

  /// Outputs in evaluation mode, without gradients, CPU.
  at::Tensor evaluate(const at::Tensor& activations) { return stage_.evaluate(activations); }

  /// The tail's weights and buffers as a checkpoint keeps them: an open step has not moved the statistics of
  /// batch norm. Aliases but for those.
  NamedTensors settled_state() const { return stage_.settled_weights(); }

  const ModelPart& tail() const { return stage_.stage(); }
  ModelPart& tail() { return stage_.stage(); }
  PartOptimizer& optimizer() { return stage_.optimizer(); }
  const PartOptimizer& optimizer() const { return stage_.optimizer(); }

 private:
  struct Joined;
  Joined forward_with_loss(const std::vector<const ClientActivations*>& clients);

  TailTrainerOptions options_;
  StageTrainer stage_;
  Objective objective_;
  std::vector<int64_t> open_sizes_;  // between forward and backward of a U-shaped step
};

}  // namespace tandem::aggregator
