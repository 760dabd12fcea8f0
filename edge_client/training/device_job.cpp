#include "tandem/edge_client/training/device_job.h"

#include <ATen/ATen.h>

#include <exception>
#include <string>
#include <utility>

#include "tandem/core/base/random.h"
#include "tandem/core/data/data_description.h"

namespace tandem::edge_client {

Result<std::unique_ptr<DeviceJob>> DeviceJob::create(const wire::Welcome& welcome, const Dataset& dataset,
                                                     const AugmenterFactory& make_augmenter, int prefetch) {
  const TrainingPlan& plan = welcome.plan;
  if (const auto checked = plan.check(); !checked) return checked.error();
  const DataDescription data = dataset.describe();
  if (data.input_shape != plan.input_shape) {
    return Error{ErrorCode::kShapeMismatch, "this device's examples have shape " +
                                                shape_to_string(data.input_shape) + ", the run trains on " +
                                                shape_to_string(plan.input_shape)};
  }
  if (data.num_classes > plan.num_classes) {
    return Error{ErrorCode::kShapeMismatch, "this device's labels need " + std::to_string(data.num_classes) +
                                                " classes, the run has " + std::to_string(plan.num_classes) +
                                                "; mend the labels, or start the aggregator with " +
                                                "--num-classes " + std::to_string(data.num_classes)};
  }
  auto definition = define_model(plan.model, plan.input_shape, plan.num_classes);
  if (!definition) return definition.error();
  auto partition = partition_of(*definition, plan);
  if (!partition) return partition.error();
  auto augmenter = make_augmenter(plan.augment, plan.normalize, plan.input_shape);
  if (!augmenter) return augmenter.error();
  return std::unique_ptr<DeviceJob>(new DeviceJob(welcome, dataset, std::move(*definition),
                                                  std::move(*partition), std::move(*augmenter), prefetch));
}

DeviceJob::DeviceJob(const wire::Welcome& welcome, const Dataset& dataset, ModelDefinition definition,
                     ModelPartition partition, std::unique_ptr<const Augmenter> augmenter, int prefetch)
    : plan_(welcome.plan),
      num_examples_(dataset.describe().num_examples),
      definition_(std::move(definition)),
      partition_(std::move(partition)),
      augmenter_(std::move(augmenter)),
      loader_(dataset, *augmenter_,
              {.run_seed = plan_.seed, .client_hash = hash_name(welcome.client), .prefetch = prefetch}),
      kept_(snapshot(welcome.kept)) {}  // the tensors borrow the received frames

Result<void> DeviceJob::check(const wire::BeginRound& begin) const {
  TrainingPlan with_schedule = plan_;
  with_schedule.lr_schedule = begin.lr_schedule;
  if (auto checked = with_schedule.check(); !checked) return checked;
  for (const uint32_t size : begin.batch_sizes) {
    if (size > num_examples_) {
      return Error{ErrorCode::kTooLarge, "a batch of " + std::to_string(size) +
                                             " examples, this device holds " + std::to_string(num_examples_)};
    }
  }
  return {};
}

Result<std::unique_ptr<DeviceTrainer>> DeviceJob::build_trainer(const LrScheduleOptions& lr_schedule,
                                                                at::Device compute, ModelPool* models) const {
  try {
    const std::unique_ptr<DeviceModel> shared =
        models != nullptr ? models->take(partition_.front().last) : nullptr;
    Result<DeviceModel> model =
        shared ? Result<DeviceModel>(*shared) : build_device_model(definition_, plan_);
    if (!model) return model.error();
    if (auto loaded = model->load_kept(kept_); !loaded) {
      return Error{loaded.error().code,
                   "what stays on this device does not fit its model: " + loaded.error().message};
    }
    model->to(compute);
    return std::make_unique<DeviceTrainer>(
        std::move(*model),
        DeviceTrainerOptions{.optimizer = {.optimizer = plan_.optimizer,
                                           .lr_schedule = lr_schedule,
                                           .drift = {.proximal_mu = plan_.proximal_mu,
                                                     .control_variates = plan_.control_variates}},
                             .compute = compute,
                             .window = plan_.trains_locally() ? 1 : plan_.window});
  } catch (const std::exception& exception) {  // no memory
    return Error{ErrorCode::kTooLarge,
                 "this device's part of the model cannot be built here: " + std::string(exception.what())};
  }
}

at::Tensor DeviceJob::labels_to_send(const at::Tensor& labels) const {
  return plan_.u_shaped() ? at::empty({0}, at::kLong) : labels;
}

Result<void> DeviceJob::check_outputs(const at::Tensor& outputs, int64_t examples) const {
  if (!plan_.u_shaped()) {
    return Error{ErrorCode::kProtocol, "the tail's outputs came though labels and loss are the aggregator's"};
  }
  const auto expected = partition_.output_shape(definition_, examples);
  if (outputs.scalar_type() == at::kFloat && outputs.sizes() == at::IntArrayRef(expected)) return {};
  return Error{ErrorCode::kShapeMismatch, "the tail's outputs have shape " +
                                              shape_to_string(outputs.sizes().vec()) + " and type " +
                                              at::toString(outputs.scalar_type()) + ", expected " +
                                              shape_to_string(expected) + " Float"};
}

}  // namespace tandem::edge_client
