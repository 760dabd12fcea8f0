#pragma once

#include <cstdint>
#include <memory>

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include "tandem/core/base/result.h"
#include "tandem/core/data/augmenter.h"
#include "tandem/core/data/batch_loader.h"
#include "tandem/core/data/dataset.h"
#include "tandem/core/model/model.h"
#include "tandem/core/training/device_model.h"
#include "tandem/core/training/training_plan.h"
#include "tandem/core/wire/messages.h"
#include "tandem/edge_client/training/device_trainer.h"
#include "tandem/edge_client/training/model_pool.h"

namespace tandem::edge_client {

/// A device's part in a run: the plan of Welcome, and all that follows from it and this device's data.
class DeviceJob {
 public:
  /// `dataset` must outlive the job. kShapeMismatch when the run trains on other examples; errors as
  /// TrainingPlan::check, define_model, partition_of and `make_augmenter`.
  static Result<std::unique_ptr<DeviceJob>> create(const wire::Welcome& welcome, const Dataset& dataset,
                                                   const AugmenterFactory& make_augmenter, int prefetch);

  const TrainingPlan& plan() const { return plan_; }
  const Augmenter& augmenter() const { return *augmenter_; }
  /// This device's batches.
  BatchLoader& loader() { return loader_; }

  /// Whether a round can be trained as it says; the weights are DeviceTrainer's to check.
  Result<void> check(const wire::BeginRound& begin) const;
  /// Builds a trainer with the weights that stay on this device, around a model of `models` where there is
  /// one. kTooLarge when there is no memory for it.
  Result<std::unique_ptr<DeviceTrainer>> build_trainer(const LrScheduleOptions& lr_schedule,
                                                       at::Device compute, ModelPool* models = nullptr) const;

  /// Whether the aggregator holds a part of the model.
  bool has_tail() const { return partition_.tail().has_value(); }
  /// Where the edge trains without waiting: whether a step's activations train the tail.
  bool goes_up(uint32_t step) const { return has_tail() && (step + 1) % plan_.tail_interval == 0; }
  /// What goes up beside the activations: the labels, or where they stay on the device (U-shaped) none.
  at::Tensor labels_to_send(const at::Tensor& labels) const;
  /// Whether these are the tail's outputs for a batch of `examples`; kShapeMismatch, naming both shapes.
  Result<void> check_outputs(const at::Tensor& outputs, int64_t examples) const;
  int64_t evaluation_batch() const { return partition_.evaluation_batch_size(definition_); }

 private:
  DeviceJob(const wire::Welcome& welcome, const Dataset& dataset, ModelDefinition definition,
            ModelPartition partition, std::unique_ptr<const Augmenter> augmenter, int prefetch);

  TrainingPlan plan_;
  int64_t num_examples_;
  ModelDefinition definition_;
  ModelPartition partition_;
  std::unique_ptr<const Augmenter> augmenter_;
  BatchLoader loader_;  // its thread uses the augmenter
  NamedTensors kept_;   // what stays on the device, as it was when the run began
};

}  // namespace tandem::edge_client
