#include "tandem/aggregator/trained_model.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <exception>
#include <functional>
#include <numeric>
#include <string>
#include <utility>

#include "tandem/core/data/data_description.h"
#include "tandem/core/model/auxiliary_head.h"

namespace tandem::aggregator {
namespace {

int64_t float_bytes(const std::vector<int64_t>& shape) {
  return std::accumulate(shape.begin(), shape.end(), int64_t{4}, std::multiplies<>());
}

/// The mode would be taken for an effect that it cannot have.
Result<void> check_batch_norm(const ModelDefinition& definition, const TrainingPlan& plan) {
  const bool local = plan.batch_norm == BatchNormMode::kLocal;
  if (plan.batch_norm == BatchNormMode::kAverage ||
      definition.uses_batch_statistics(0, definition.num_blocks())) {
    return {};
  }
  return Error{ErrorCode::kInvalidArgument,
               "--batch-norm " + std::string(local ? "local" : "freeze") + " does nothing with --model " +
                   plan.model +
                   ": it has no batch norm; leave it out or choose a model that has, such as "
                   "resnet18"};
}

Result<ModelSplit> split_for(const ModelDefinition& definition, TrainingPlan& plan) {
  if (auto checked = plan.check(); !checked) return checked.error();
  if (auto checked = check_batch_norm(definition, plan); !checked) return checked.error();
  // Whatever the cut was: plain federated learning is the cut behind the last block.
  if (plan.schedule() == Algorithm::kFederated) plan.cut = definition.num_blocks();
  return split_model(definition, plan);
}

/// `data`: what the model is for, where that is known.
Error does_not_fit(const InitialWeights& weights, const TrainingPlan& plan, const std::string& data,
                   const Error& problem) {
  const bool of_another = !weights.model.empty() && weights.model != plan.model;
  return {problem.code, weights.source + " does not fit --model " + plan.model + data + ": " +
                            problem.message +
                            (of_another ? "; the file says that it is of --model " + weights.model : "")};
}

Result<void> load_initial_weights(ModelPart& whole, const InitialWeights& weights, const TrainingPlan& plan) {
  const auto fitted = fit_weights(whole.state(), weights);
  if (!fitted) {
    return does_not_fit(weights, plan,
                        " for examples of " + shape_to_string(plan.input_shape) + " in " +
                            std::to_string(plan.num_classes) + " classes",
                        fitted.error());
  }
  if (!fitted->note.empty()) spdlog::info("{}: {}", weights.source, fitted->note);
  return whole.load(fitted->tensors);
}

}  // namespace

int64_t TrainedModel::activation_bytes() const {
  return split.has_tail() ? float_bytes(activation_shape(definition, split, 1)) : 0;
}

int64_t TrainedModel::output_bytes() const {
  return device.head ? float_bytes(output_shape(definition, split, 1)) : 0;
}

Result<std::unique_ptr<TrainedModel>> build_trained_model(
    TrainingPlan& plan, const std::optional<InitialWeights>& initial_weights,
    const AugmenterFactory& make_augmenter, at::Device device) {
  if (auto checked = plan.check(); !checked) return checked.error();
  auto definition = define_model(plan.model, plan.input_shape, plan.num_classes);
  if (!definition) return definition.error();
  auto split = split_for(*definition, plan);
  if (!split) return split.error();
  auto augmenter = make_augmenter(plan.augment, plan.normalize, plan.input_shape);
  if (!augmenter) return augmenter.error();
  try {
    ModelPart whole = definition->build(plan.seed);
    if (initial_weights) {
      if (auto loaded = load_initial_weights(whole, *initial_weights, plan); !loaded) return loaded.error();
    }
    if (plan.batch_norm == BatchNormMode::kFreeze) whole.freeze_batch_norm();
    auto parts = device_model_of(whole, *definition, plan);
    if (!parts) return parts.error();
    std::optional<ModelPart> tail;
    if (split->has_tail()) tail = whole.slice(split->cut, split->tail_end);
    const bool statistics = plan.batch_norm != BatchNormMode::kFreeze &&
                            definition->uses_batch_statistics(0, definition->num_blocks());
    auto model = std::make_unique<TrainedModel>(TrainedModel{.definition = std::move(*definition),
                                                             .split = *split,
                                                             .whole = std::move(whole),
                                                             .device = std::move(*parts),
                                                             .tail = std::move(tail),
                                                             .augmenter = std::move(*augmenter),
                                                             .minimum_batch = statistics ? 2u : 1u});
    model->whole.to(device);
    if (model->device.auxiliary) model->device.auxiliary->to(device);
    return model;
  } catch (const std::exception& exception) {  // no memory
    return Error{ErrorCode::kTooLarge, "the model cannot be built: " + std::string(exception.what())};
  }
}

Result<void> check_before_data(const TrainingPlan& plan, const std::optional<InitialWeights>& initial_weights,
                               const AugmenterFactory& make_augmenter) {
  // The first client's data will decide the shape; what does not depend on it can be checked with any.
  TrainingPlan nominal = plan;
  nominal.input_shape = {3, 32, 32};
  nominal.num_classes = std::max<int64_t>(nominal.num_classes, 2);
  if (auto checked = nominal.check(); !checked) return checked;
  const auto definition = define_model(nominal.model, nominal.input_shape, nominal.num_classes);
  if (!definition) return definition.error();
  if (auto split = split_for(*definition, nominal); !split) return split.error();
  if (initial_weights) {
    const auto checked = check_weight_names(definition->build(nominal.seed).state(), *initial_weights);
    if (!checked) return does_not_fit(*initial_weights, nominal, "", checked.error());
  }
  if (nominal.objective != EdgeObjective::kEndToEnd) {
    const auto head =
        build_auxiliary_head(nominal.auxiliary_head, definition->block(nominal.cut - 1).output_shape,
                             nominal.num_classes, nominal.seed);
    if (!head) return head.error();
  }
  const auto augmenter = make_augmenter(nominal.augment, "", nominal.input_shape);
  return augmenter ? Result<void>() : augmenter.error();
}

}  // namespace tandem::aggregator
