#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tandem/core/base/result.h"
#include "tandem/core/model/batch_norm_mode.h"
#include "tandem/core/training/lr_schedule.h"
#include "tandem/core/training/optimizer.h"

namespace tandem {

/// How fronts and tail are scheduled; see docs/concepts.md. Written values: never renumber.
enum class Algorithm : uint8_t {
  kParallel = 0,    ///< one tail, one joined batch a step
  kSplitFedV1 = 1,  ///< a tail for each client, averaged at the end of the round
  kSplitFedV2 = 2,  ///< one tail, updated client after client
  kRelay = 3,       ///< one client after the other, the front passes on
  kFederated = 4,   ///< the whole model on the device
};

/// "parallel", "splitfed-v1", "splitfed-v2", "relay", "federated"
const char* algorithm_name(Algorithm algorithm);
std::optional<Algorithm> find_algorithm(const std::string& name);

/// What the front is trained on. Written values: never renumber.
enum class EdgeObjective : uint8_t {
  kEndToEnd = 0,  ///< the gradient that the tail sends back
  kLocal = 1,     ///< the loss of its own auxiliary head (CSE-FSL, arXiv 2507.15816)
  kAligned = 2,   ///< likewise, the head fitted to the tail's gradients (FSL-SAGE, ICML 2025)
};

/// What every participant must agree on to train together; the aggregator decides it and sends it in
/// Welcome. Both sides `check()` it.
struct TrainingPlan {
  /// Model specification, for example "cnn" or "resnet18:norm=group".
  std::string model = "cnn";
  /// Blocks [0, cut) run on the edge; 1 <= cut < blocks, for `federated` cut == blocks.
  int32_t cut = 1;
  /// U-shaped: the last so many blocks and the loss are on the edge too, labels never leave it. 0: none.
  int32_t head_blocks = 0;
  /// Shape of one example and number of classes, from the data.
  std::vector<int64_t> input_shape;
  int64_t num_classes = 0;

  Algorithm algorithm = Algorithm::kParallel;
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

  EdgeObjective objective = EdgeObjective::kEndToEnd;
  /// Without a gradient from the tail: every so many batches one goes up to train the tail.
  uint32_t tail_interval = 1;
  /// Without a gradient from the tail: the head the front trains on; see build_auxiliary_head.
  std::string auxiliary_head = "linear";

  BatchNormMode batch_norm = BatchNormMode::kAverage;
  /// FedProx: mu of the proximal term; 0 for none.
  double proximal_mu = 0;
  /// SCAFFOLD: the edges keep control variates.
  bool control_variates = false;
  /// Both sides checkpoint whenever so many more steps are done; 0 only at the end of a round.
  uint32_t checkpoint_steps = 0;

  bool u_shaped() const { return head_blocks > 0; }
  /// Whether the device has the loss of its own batches without asking the aggregator, so that it trains on
  /// without waiting: federated, or an auxiliary head.
  bool trains_locally() const {
    return objective != EdgeObjective::kEndToEnd || algorithm == Algorithm::kFederated;
  }

  /// kInvalidArgument names the first field out of its range, with the value and the rule. Does not build
  /// the model: whether `model` and `cut` exist is define_model's and check_cut's to say.
  Result<void> check() const;
};

}  // namespace tandem
