#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include "tandem/core/base/ids.h"
#include "tandem/core/model/model.h"
#include "tandem/core/training/lr_schedule.h"
#include "tandem/core/training/optimizer.h"

namespace tandem::aggregator {

/// One client's smashed data for a step.
struct ClientActivations {
  ClientId client;
  at::Tensor activations;  ///< float32 [B_k, ...], CPU
  at::Tensor labels;       ///< int64 [B_k], CPU
  /// Of the message they came in, part of the key under which its reply is kept.
  uint64_t payload_hash = 0;
};

/// What goes back to that client.
struct ClientGradient {
  ClientId client;
  /// Gradient of the client's own mean loss; undefined when it was taken out.
  at::Tensor gradient;
  double loss = 0;
  uint32_t correct = 0;
  /// Why the client was taken out of the step; empty when it was not.
  std::string rejection;
};

struct TailTrainerOptions {
  OptimizerOptions optimizer;
  LrScheduleOptions lr_schedule;
  at::Device device = at::kCPU;
  /// A client whose mean loss is above this, or not finite, is taken out of the step.
  double loss_limit = 1e4;
};

/// Trains the shared tail of `parallel` (PSL, server-side batch): A = [a_1; ...; a_K], one forward and
/// backward with loss sum_k (B_k/B) L_k, one optimiser step; client k receives B/B_k times its slice of
/// dL/dA, the gradient of its own mean loss. Not thread-safe; lives on the trainer thread.
class TailTrainer {
 public:
  TailTrainer(ModelPart tail, TailTrainerOptions options);

  /// One step on the joined batch, clients in the order given (the caller's: client-id order). A client
  /// with a loss that is not finite or above the limit is taken out and the step is computed again
  /// without it before anything is updated; with nobody left nothing is updated.
  std::vector<ClientGradient> step(const std::vector<ClientActivations>& clients);

  int64_t applied_steps() const { return optimizer_.applied_steps(); }
  const Optimizer& optimizer() const { return optimizer_; }
  Optimizer& optimizer() { return optimizer_; }

 private:
  struct Joined;
  Joined forward(const std::vector<const ClientActivations*>& clients);

  ModelPart tail_;
  TailTrainerOptions options_;
  Optimizer optimizer_;
};

}  // namespace tandem::aggregator
