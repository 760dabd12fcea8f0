#include "tandem/core/training/device_model.h"

#include <algorithm>
#include <utility>

#include "tandem/core/model/auxiliary_head.h"

namespace tandem {
namespace {

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

Result<void> complete(DeviceModel& model, const ModelDefinition& definition, const ModelPartition& partition,
                      const TrainingPlan& plan) {
  model.batch_norm = plan.batch_norm;
  if (plan.objective != EdgeObjective::kEndToEnd) {
    auto auxiliary =
        build_auxiliary_head(plan.auxiliary_head, definition.block(partition.front().last - 1).output_shape,
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

Result<ModelPartition> partition_of(const ModelDefinition& definition, const TrainingPlan& plan) {
  if (plan.algorithm != Algorithm::kFederated) {
    return ModelPartition::cut_at(definition, plan.cut, plan.head_blocks);
  }
  const int blocks = definition.num_blocks();
  if (plan.cut == blocks) return ModelPartition::on_client(definition);
  return Error{ErrorCode::kInvalidArgument,
               "with federated the cut is behind the last of the " + std::to_string(blocks) +
                   " blocks of model " + definition.specification() + ", got " + std::to_string(plan.cut)};
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
  const auto partition = partition_of(definition, plan);
  if (!partition) return partition.error();
  DeviceModel model{.front = definition.build(plan.seed, 0, partition->front().last)};
  if (const auto head = partition->head()) model.head = definition.build(plan.seed, head->first, head->last);
  if (auto completed = complete(model, definition, *partition, plan); !completed) return completed.error();
  return model;
}

Result<DeviceModel> device_model_of(const ModelPart& whole, const ModelDefinition& definition,
                                    const TrainingPlan& plan) {
  const auto partition = partition_of(definition, plan);
  if (!partition) return partition.error();
  DeviceModel model{.front = whole.slice(0, partition->front().last)};
  if (const auto head = partition->head()) model.head = whole.slice(head->first, head->last);
  if (auto completed = complete(model, definition, *partition, plan); !completed) return completed.error();
  return model;
}

}  // namespace tandem
