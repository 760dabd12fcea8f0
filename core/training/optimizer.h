#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "tandem/core/base/result.h"
#include "tandem/core/model/named_tensors.h"

namespace tandem {

enum class OptimizerKind : uint8_t { kSgd = 0, kAdam = 1, kAdamW = 2 };

struct OptimizerOptions {
  OptimizerKind kind = OptimizerKind::kSgd;
  /// > 0.
  double learning_rate = 0.05;
  /// kSgd: heavy-ball momentum, in [0, 1).
  double momentum = 0.0;
  /// kSgd, kAdam: L2 penalty added to the gradient; kAdamW: decoupled. >= 0.
  double weight_decay = 0.0;
  /// kAdam, kAdamW: in [0, 1).
  double beta1 = 0.9;
  double beta2 = 0.999;
  /// kAdam, kAdamW: > 0.
  double epsilon = 1e-8;
  /// Upper bound on the global norm of the owner's gradients, as torch's clip_grad_norm_; 0 means none.
  /// Per part, not per model.
  double clip_norm = 0.0;

  /// Throws std::invalid_argument naming the first bad field.
  OptimizerOptions validated() const;
};

/// Updates one owner's parameters (a front, or a tail) from their gradients. The formulas are those of
/// torch.optim.SGD, Adam and AdamW, so an oracle in Python agrees. Its state has names and can be saved
/// (torch::optim keys its state by tensor address, which changes between versions and processes).
/// Not thread-safe; used on the owner's compute thread.
class Optimizer {
 public:
  /// `parameters` alias the model's; they are updated in place, their `.grad()` is read and never written.
  /// A model moves to its device first. Throws std::invalid_argument as `validated` does.
  Optimizer(OptimizerOptions options, NamedTensors parameters);
  ~Optimizer();

  /// One step with learning rate options.learning_rate * lr_factor, from each parameter's `.grad()`
  /// (a parameter without one is left alone). Does not clear the gradients. `lr_factor` is finite, >= 0.
  void step(double lr_factor);

  /// Steps applied so far; schedules count these.
  int64_t applied_steps() const;

  /// State tensors (momentum "<name>.momentum", Adam "<name>.exp_avg", "<name>.exp_avg_sq") and
  /// "applied_steps", an int64 scalar; aliases but for the scalar. Buffers that no step has touched are
  /// left out. The order is that of the parameters, "applied_steps" last.
  NamedTensors state() const;
  /// The reverse of a snapshot of `state()`, which is copied; kShapeMismatch names what does not fit, and
  /// then nothing has changed.
  Result<void> load_state(const NamedTensors& state);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// "sgd", "adam", "adamw"
const char* optimizer_name(OptimizerKind kind);

}  // namespace tandem
