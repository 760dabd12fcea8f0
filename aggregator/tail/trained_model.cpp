#include "tandem/aggregator/tail/trained_model.h"

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

/// Batch norm has no variance of one example.
uint32_t minimum_batch_of(const ModelDefinition& definition, const TrainingPlan& plan) {
  const bool statistics = plan.batch_norm != BatchNormMode::kFreeze &&
                          definition.uses_batch_statistics(0, definition.num_blocks());
  return statistics ? 2 : 1;
}

/// `error` of a setting, with the flag that it belongs to.
Error of_flag(const std::string& flag, const Error& error) {
  return {error.code, flag + ": " + error.message};
}

/// What a plan's settings make of the shape of its data; no weights.
struct Layout {
  ModelDefinition definition;
  ClientPartitions partitions;
  std::unique_ptr<const Augmenter> augmenter;
};

Result<ClientPartitions> partitions_of(const ModelDefinition& definition, const TrainingPlan& plan,
                                       const std::optional<ClientCuts>& cuts) {
  if (cuts) return ClientPartitions::cut_at(definition, *cuts, plan.head_blocks);
  auto partition = partition_of(definition, plan);
  if (!partition) return partition.error();
  return ClientPartitions(std::move(*partition));
}

Result<Layout> lay_out(TrainingPlan& plan, const std::optional<ClientCuts>& cuts,
                       const AugmenterFactory& make_augmenter) {
  if (auto checked = plan.check(); !checked) return checked.error();
  auto definition = define_model(plan.model, plan.input_shape, plan.num_classes);
  if (!definition) return of_flag("--model", definition.error());
  if (auto checked = check_batch_norm(*definition, plan); !checked) return checked.error();
  // Whatever the cut was: plain federated learning is the cut behind the last block.
  if (plan.algorithm == Algorithm::kFederated) plan.cut = definition->num_blocks();
  auto partitions = partitions_of(*definition, plan, cuts);
  if (!partitions) return Error{partitions.error().code, "--" + partitions.error().message};
  if (plan.objective != EdgeObjective::kEndToEnd) {
    const auto head = build_auxiliary_head(plan.auxiliary_head, definition->block(plan.cut - 1).output_shape,
                                           plan.num_classes, plan.seed);
    if (!head) return of_flag("--edge-objective", head.error());
  }
  auto augmenter = make_augmenter(plan.augment, plan.normalize, plan.input_shape);
  if (!augmenter) return Error{augmenter.error().code, "--" + augmenter.error().message};
  return Layout{std::move(*definition), std::move(*partitions), std::move(*augmenter)};
}

/// Data that fit whatever fits any: large images with a channel for each pair of --normalize.
std::vector<int64_t> nominal_shape(const TrainingPlan& plan) {
  if (!plan.input_shape.empty()) return plan.input_shape;
  const int64_t channels = 1 + std::count(plan.normalize.begin(), plan.normalize.end(), ',');
  return {channels, 32, 32};
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

NamedTensors TrainedModel::held_by(const ModelPartition& partition, const NamedTensors& exchanged) const {
  if (partitions.equal()) return exchanged;
  return tensors_of_blocks(exchanged, partition.front().first, partition.front().last);
}

int64_t TrainedModel::activation_bytes(const ModelPartition& partition) const {
  return partition.tail() ? float_bytes(partition.activation_shape(definition, 1)) : 0;
}

int64_t TrainedModel::output_bytes(const ModelPartition& partition) const {
  return partition.head() ? float_bytes(partition.output_shape(definition, 1)) : 0;
}

Result<std::unique_ptr<TrainedModel>> build_trained_model(
    TrainingPlan& plan, const std::optional<ClientCuts>& cuts,
    const std::optional<InitialWeights>& initial_weights, const AugmenterFactory& make_augmenter,
    at::Device device) {
  auto layout = lay_out(plan, cuts, make_augmenter);
  if (!layout) return layout.error();
  const ModelDefinition& definition = layout->definition;
  try {
    ModelPart whole = definition.build(plan.seed);
    if (initial_weights) {
      if (auto loaded = load_initial_weights(whole, *initial_weights, plan); !loaded) return loaded.error();
    }
    if (plan.batch_norm == BatchNormMode::kFreeze) whole.freeze_batch_norm();
    auto parts = device_model_of(whole, definition, plan);
    if (!parts) return parts.error();
    std::optional<ModelPart> tail;
    const ClientPartitions& partitions = layout->partitions;
    if (const auto place = partitions.distinct().front().tail()) {
      tail = whole.slice(place->first, place->last);
    }
    const uint32_t minimum_batch = minimum_batch_of(definition, plan);
    auto model = std::make_unique<TrainedModel>(TrainedModel{.definition = definition,
                                                             .partitions = partitions,
                                                             .whole = std::move(whole),
                                                             .device = std::move(*parts),
                                                             .tail = std::move(tail),
                                                             .augmenter = std::move(layout->augmenter),
                                                             .minimum_batch = minimum_batch});
    model->whole.to(device);
    if (model->device.auxiliary) model->device.auxiliary->to(device);
    return model;
  } catch (const std::exception& exception) {  // no memory
    return Error{ErrorCode::kTooLarge, "the model cannot be built: " + std::string(exception.what())};
  }
}

Result<void> check_settings(const TrainingPlan& plan, const std::optional<ClientCuts>& cuts,
                            const AugmenterFactory& make_augmenter) {
  TrainingPlan checked = plan;
  const auto layout = lay_out(checked, cuts, make_augmenter);
  return layout ? Result<void>() : layout.error();
}

Result<void> check_before_data(const SessionOptions& options,
                               const std::optional<InitialWeights>& initial_weights,
                               const AugmenterFactory& make_augmenter) {
  const TrainingPlan& plan = options.plan;
  TrainingPlan nominal = plan;
  nominal.input_shape = nominal_shape(plan);
  nominal.num_classes = std::max<int64_t>(nominal.num_classes, 2);
  // A model's layers would be huge for images of a size that fits any augmentation.
  nominal.augment.clear();
  const auto layout = lay_out(nominal, options.cuts, make_augmenter);
  if (!layout) return layout.error();
  if (initial_weights) {
    const auto checked = check_weight_names(layout->definition.build(nominal.seed).state(), *initial_weights);
    if (!checked) return does_not_fit(*initial_weights, nominal, "", checked.error());
  }
  if (options.batch_size < minimum_batch_of(layout->definition, plan)) {
    return Error{ErrorCode::kInvalidArgument,
                 "--batch-size 1 is too small for --model " + plan.model +
                     ": batch norm needs 2 examples; give --batch-size 2 or more, or --batch-norm freeze"};
  }
  constexpr int64_t kLargeSide = 65'536;
  const auto large =
      plan.input_shape.empty() ? std::vector<int64_t>{1, kLargeSide, kLargeSide} : plan.input_shape;
  const auto augmenter = make_augmenter(plan.augment, "", large);
  return augmenter ? Result<void>() : Error{augmenter.error().code, "--" + augmenter.error().message};
}

std::optional<int64_t> classes_of(const TrainingPlan& plan, const InitialWeights& weights) {
  const auto definition = define_model(plan.model, nominal_shape(plan), 2);
  if (!definition) return std::nullopt;
  const std::string block = std::to_string(definition->num_blocks() - 1) + ".";
  for (const NamedTensor& entry : weights.tensors) {
    // A prefix such as `module.` comes before the number of the block.
    const std::string name =
        entry.name.substr(std::min(entry.name.find_first_of("0123456789"), entry.name.size()));
    const bool is_bias = name.starts_with(block) && name.ends_with(".bias");
    if (is_bias && entry.tensor.dim() == 1 && entry.tensor.size(0) >= 2) return entry.tensor.size(0);
  }
  return std::nullopt;
}

}  // namespace tandem::aggregator
