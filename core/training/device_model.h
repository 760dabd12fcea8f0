#pragma once

#include <optional>
#include <set>
#include <string>

#include "tandem/core/base/result.h"
#include "tandem/core/model/model.h"
#include "tandem/core/partition/model_partition.h"
#include "tandem/core/training/training_plan.h"

namespace tandem {

/// Returns the partition that a plan asks for. kInvalidArgument says which cut is possible, or that no block
/// is left for the aggregator.
Result<ModelPartition> partition_of(const ModelDefinition& definition, const TrainingPlan& plan);

/// What of a model a device trains. A copy of the handle shares the weights. Not thread-safe.
struct DeviceModel {
  ModelPart front;
  std::optional<ModelPart> head;       ///< U-shaped
  std::optional<ModelPart> auxiliary;  ///< where no gradient comes back
  BatchNormMode batch_norm = BatchNormMode::kAverage;

  /// What travels between the devices and the aggregator, aliases: parameters and buffers of front, head and
  /// auxiliary head; without batch norm where that stays local.
  NamedTensors exchanged() const;
  /// What stays on each device, aliases: batch norm where it is local, in the order of `exchanged`.
  NamedTensors kept() const;
  /// Whether something of it stays on each device, so that the aggregator alone cannot evaluate the model.
  bool keeps_something() const { return !kept().empty(); }
  /// Copies what traveled into the weights; kShapeMismatch or kNonFinite name the tensor, and then nothing
  /// has changed.
  Result<void> load(const NamedTensors& exchanged);
  /// The same of what stays on the device: what it begins a run with.
  Result<void> load_kept(const NamedTensors& kept);
  void to(at::Device device);
};

/// The parts a device trains, with the weights that the plan's seed gives. Errors as partition_of and
/// build_auxiliary_head.
Result<DeviceModel> build_device_model(const ModelDefinition& definition, const TrainingPlan& plan);
/// The same of a whole model, sharing its weights: the aggregator's view of the merged parts.
Result<DeviceModel> device_model_of(const ModelPart& whole, const ModelDefinition& definition,
                                    const TrainingPlan& plan);

/// Names of a part's buffers.
std::set<std::string> buffers_of(const ModelPart& part);

/// `state` without the tensors that stay where they are trained; all of it unless batch norm is local.
NamedTensors exchanged_state(const ModelPart& part, BatchNormMode mode);

}  // namespace tandem
