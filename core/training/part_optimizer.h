#pragma once

#include "tandem/core/base/result.h"
#include "tandem/core/model/model.h"
#include "tandem/core/training/drift_correction.h"
#include "tandem/core/training/lr_schedule.h"
#include "tandem/core/training/optimizer.h"
#include "tandem/core/training/training_plan.h"

namespace tandem {

/// Everything that moves one part of a model: the optimiser, its learning-rate schedule, which counts the
/// part's own steps, and the correction of client drift. State belongs to the part's owner and persists
/// across rounds. Not thread-safe; used on the owner's compute thread.
class PartOptimizer {
 public:
  /// What a plan says of the edges' optimisers and of a tail replica's.
  struct Options {
    OptimizerOptions optimizer;
    LrScheduleOptions lr_schedule;
    DriftCorrectionOptions drift;
  };

  PartOptimizer(Options options, ModelPart part);

  /// The merged weights were loaded; `control` is SCAFFOLD's c and may hold tensors of other parts.
  Result<void> begin_round(const NamedTensors& control);
  /// One step from the part's gradients, which the correction changes.
  void step();
  /// SCAFFOLD: the change of this owner's control variates in this round; empty without.
  NamedTensors end_round() { return drift_.end_round(); }

  int64_t applied_steps() const { return optimizer_.applied_steps(); }
  /// Of the optimiser and the correction; the parameters are the part's own.
  NamedTensors state() const;
  /// The reverse. An error may leave a part of it loaded: the owner starts anew then.
  Result<void> load_state(const NamedTensors& state);

 private:
  Options options_;
  Optimizer optimizer_;
  DriftCorrection drift_;
};

}  // namespace tandem
