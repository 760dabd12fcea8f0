#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include <c10/core/Device.h>

#include "tandem/aggregator/session/session_options.h"
#include "tandem/core/base/result.h"
#include "tandem/core/data/augmenter.h"
#include "tandem/core/model/initial_weights.h"
#include "tandem/core/model/model.h"
#include "tandem/core/partition/client_partitions.h"
#include "tandem/core/training/device_model.h"
#include "tandem/core/training/training_plan.h"

namespace tandem::aggregator {

/// The model of a run as the aggregator holds it: whole, and the parts that share its weights.
struct TrainedModel {
  ModelDefinition definition;
  ClientPartitions partitions;
  ModelPart whole;
  DeviceModel device;             ///< the merged parts of the devices, of the longest front
  std::optional<ModelPart> tail;  ///< from the lowest cut on; none with `federated`
  std::unique_ptr<const Augmenter> augmenter;
  uint32_t minimum_batch;  ///< examples a client brings to a step at least, if any

  /// Returns those of `exchanged`, in the layout of device.exchanged(), that a client with that partition
  /// holds; aliases.
  NamedTensors held_by(const ModelPartition& partition, const NamedTensors& exchanged) const;
  /// Bytes that cross that cut for an example, one way; 0 without a tail.
  int64_t activation_bytes(const ModelPartition& partition) const;
  /// Bytes that cross between tail and head for an example, one way; 0 without a head.
  int64_t output_bytes(const ModelPartition& partition) const;
};

/// Builds it for a complete plan; with `federated` the plan's cut becomes the number of blocks, with
/// different `cuts` the highest of them. The weights are those of the plan's seed, or `initial_weights` where
/// there are any; what was converted of them is logged. kInvalidArgument, kShapeMismatch, kNonFinite or
/// kTooLarge say what does not fit, with the flag in front.
Result<std::unique_ptr<TrainedModel>> build_trained_model(
    TrainingPlan& plan, const std::optional<ClientCuts>& cuts,
    const std::optional<InitialWeights>& initial_weights, const AugmenterFactory& make_augmenter,
    at::Device compute);

/// Checks all of a complete plan that needs no weights: model, cut, auxiliary head, augmentation. The errors
/// are those of build_trained_model.
Result<void> check_settings(const TrainingPlan& plan, const std::optional<ClientCuts>& cuts,
                            const AugmenterFactory& make_augmenter);

/// The same of options whose shape or class count may be open, and of the names of initial weights: what
/// would not fit any data.
Result<void> check_before_data(const SessionOptions& options,
                               const std::optional<InitialWeights>& initial_weights,
                               const AugmenterFactory& make_augmenter);

/// The class count that weights of this model are for: that of the last bias. Nothing where they are of
/// another model.
std::optional<int64_t> classes_of(const TrainingPlan& plan, const InitialWeights& weights);

}  // namespace tandem::aggregator
