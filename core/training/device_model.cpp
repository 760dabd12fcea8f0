#include "tandem/core/training/device_model.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <utility>

#include "tandem/core/model/auxiliary_head.h"

namespace tandem {
namespace {

std::vector<int64_t> shape_after(const ModelDefinition& definition, int blocks, int64_t batch) {
  std::vector<int64_t> shape = definition.block(blocks - 1).output_shape;
  shape.insert(shape.begin(), batch);
  return shape;
}

std::vector<ModelPart> parts_of(const DeviceModel& model) {
  std::vector<ModelPart> parts{model.front};
  if (model.head) parts.push_back(*model.head);
  if (model.auxiliary) parts.push_back(*model.auxiliary);
  return parts;
}

std::set<std::string> names_of(const NamedTensors& tensors) {
  std::set<std::string> names;
  for (const NamedTensor& entry : tensors) names.insert(entry.name);
  return names;
}

Result<void> copy_checked(const NamedTensors& from, const NamedTensors& to) {
  if (auto checked = check_same_layout(to, from); !checked) return checked;
  if (auto checked = check_finite(from); !checked) return checked;
  copy_values(from, to);
  return {};
}

Result<void> complete(DeviceModel& model, const ModelDefinition& definition, const ModelSplit& split,
                      const TrainingPlan& plan) {
  model.batch_norm = plan.batch_norm;
  if (plan.objective != EdgeObjective::kEndToEnd) {
    auto auxiliary = build_auxiliary_head(plan.auxiliary_head, definition.block(split.cut - 1).output_shape,
                                          plan.num_classes, plan.seed);
    if (!auxiliary) return auxiliary.error();
    model.auxiliary = std::move(*auxiliary);
  }
  if (plan.batch_norm == BatchNormMode::kFreeze) {
    for (ModelPart& part : parts_of(model)) part.freeze_batch_norm();
  }
  return {};
}

}  // namespace

Result<ModelSplit> split_model(const ModelDefinition& definition, const TrainingPlan& plan) {
  const int blocks = definition.num_blocks();
  if (plan.algorithm == Algorithm::kFederated) {
    if (plan.cut == blocks) return ModelSplit{blocks, blocks, blocks};
    return Error{ErrorCode::kInvalidArgument,
                 "with federated the cut is behind the last of the " + std::to_string(blocks) +
                     " blocks of model " + definition.specification() + ", got " + std::to_string(plan.cut)};
  }
  if (auto checked = definition.check_cut(plan.cut); !checked) return checked.error();
  if (plan.head_blocks >= blocks - plan.cut) {
    return Error{ErrorCode::kInvalidArgument,
                 "head-blocks must be 0.." + std::to_string(blocks - plan.cut - 1) + " for model " +
                     definition.specification() + " cut at " + std::to_string(plan.cut) + " of its " +
                     std::to_string(blocks) + " blocks, so that one is left for the aggregator; got " +
                     std::to_string(plan.head_blocks)};
  }
  return ModelSplit{plan.cut, blocks - plan.head_blocks, blocks};
}

std::vector<int64_t> activation_shape(const ModelDefinition& definition, const ModelSplit& split,
                                      int64_t batch) {
  return shape_after(definition, split.cut, batch);
}

std::vector<int64_t> output_shape(const ModelDefinition& definition, const ModelSplit& split, int64_t batch) {
  return shape_after(definition, split.tail_end, batch);
}

std::set<std::string> buffers_of(const ModelPart& part) {
  return names_of(part.buffers());
}

NamedTensors exchanged_state(const ModelPart& part, BatchNormMode mode) {
  NamedTensors state = part.state();
  if (mode != BatchNormMode::kLocal) return state;
  const std::set<std::string> local = names_of(part.batch_norm_state());
  std::erase_if(state, [&](const NamedTensor& entry) { return local.contains(entry.name); });
  return state;
}

int64_t evaluation_batch_size(const ModelDefinition& definition, const ModelSplit& split) {
  constexpr int64_t kMostExamples = 256;
  constexpr int64_t kMostValues = int64_t{1} << 22;  // 16 MiB of float32
  int64_t largest = 1;
  for (const int last : {split.cut, split.tail_end}) {
    const std::vector<int64_t>& shape = definition.block(last - 1).output_shape;
    largest = std::max(largest, std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>()));
  }
  return std::clamp<int64_t>(kMostValues / largest, 1, kMostExamples);
}

NamedTensors DeviceModel::exchanged() const {
  NamedTensors all;
  for (const ModelPart& part : parts_of(*this)) {
    for (NamedTensor& entry : exchanged_state(part, batch_norm)) all.push_back(std::move(entry));
  }
  return all;
}

NamedTensors DeviceModel::kept() const {
  NamedTensors all;
  if (batch_norm != BatchNormMode::kLocal) return all;
  for (const ModelPart& part : parts_of(*this)) {
    for (NamedTensor& entry : part.batch_norm_state()) all.push_back(std::move(entry));
  }
  return all;
}

Result<void> DeviceModel::load(const NamedTensors& exchanged) {
  return copy_checked(exchanged, this->exchanged());
}

Result<void> DeviceModel::load_kept(const NamedTensors& kept) {
  return copy_checked(kept, this->kept());
}

void DeviceModel::to(at::Device device) {
  for (ModelPart& part : parts_of(*this)) part.to(device);
}

Result<DeviceModel> build_device_model(const ModelDefinition& definition, const TrainingPlan& plan) {
  const auto split = split_model(definition, plan);
  if (!split) return split.error();
  DeviceModel model{.front = definition.build(plan.seed, 0, split->cut)};
  if (split->tail_end < split->blocks) {
    model.head = definition.build(plan.seed, split->tail_end, split->blocks);
  }
  if (auto completed = complete(model, definition, *split, plan); !completed) return completed.error();
  return model;
}

Result<DeviceModel> device_model_of(const ModelPart& whole, const ModelDefinition& definition,
                                    const TrainingPlan& plan) {
  const auto split = split_model(definition, plan);
  if (!split) return split.error();
  DeviceModel model{.front = whole.slice(0, split->cut)};
  if (split->tail_end < split->blocks) model.head = whole.slice(split->tail_end, split->blocks);
  if (auto completed = complete(model, definition, *split, plan); !completed) return completed.error();
  return model;
}

}  // namespace tandem
