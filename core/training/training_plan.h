#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tandem/core/base/result.h"
#include "tandem/core/training/lr_schedule.h"
#include "tandem/core/training/optimizer.h"

namespace tandem {

/// What every participant must agree on to train together; the aggregator decides it and sends it in
/// Welcome. Both sides `check()` it.
struct TrainingPlan {
  /// Model specification, for example "cnn" or "resnet18?norm=group".
  std::string model = "cnn";
  /// Blocks [0, cut) run on the edge; 1 <= cut < blocks.
  int32_t cut = 1;
  /// Shape of one example and number of classes, from the data.
  std::vector<int64_t> input_shape;
  int64_t num_classes = 0;

  std::string algorithm = "parallel";
  uint64_t seed = 1;
  uint32_t rounds = 1;
  OptimizerOptions optimizer;
  LrScheduleOptions lr_schedule;
  /// On-device augmentation, for example "crop:2,flip,cutout:8"; empty for none.
  std::string augment;
  /// Per-channel "mean/std" pairs separated by commas, for inputs scaled to 0..1; empty for none.
  std::string normalize;
  /// Steps an edge may have in flight; 1 is exact, W hides the network with gradients W-1 steps old.
  uint32_t window = 1;

  /// kInvalidArgument names the first field out of its range, with the value and the rule. Does not build
  /// the model: whether `model` and `cut` exist is define_model's and check_cut's to say.
  Result<void> check() const;
};

}  // namespace tandem
