#include "tandem/core/partition/model_partition.h"

#include <algorithm>
#include <functional>
#include <numeric>

namespace tandem {
namespace {

std::vector<int64_t> shape_after(const ModelDefinition& definition, int blocks, int64_t batch) {
  std::vector<int64_t> shape = definition.block(blocks - 1).output_shape;
  shape.insert(shape.begin(), batch);
  return shape;
}

}  // namespace

Result<ModelPartition> ModelPartition::cut_at(const ModelDefinition& definition, int cut, int head_blocks) {
  const int blocks = definition.num_blocks();
  if (auto checked = definition.check_cut(cut); !checked) return checked.error();
  if (head_blocks >= blocks - cut) {
    return Error{ErrorCode::kInvalidArgument, "head-blocks must be 0.." + std::to_string(blocks - cut - 1) +
                                                  " for model " + definition.specification() + " cut at " +
                                                  std::to_string(cut) + " of its " + std::to_string(blocks) +
                                                  " blocks, so that one is left for the aggregator; got " +
                                                  std::to_string(head_blocks)};
  }
  const int tail_end = blocks - head_blocks;
  std::vector<Stage> stages{{Place::kClient, 0, cut}, {Place::kAggregator, cut, tail_end}};
  if (head_blocks > 0) stages.push_back({Place::kClient, tail_end, blocks});
  return ModelPartition(std::move(stages));
}

ModelPartition ModelPartition::on_client(const ModelDefinition& definition) {
  return ModelPartition({{Place::kClient, 0, definition.num_blocks()}});
}

std::optional<Stage> ModelPartition::tail() const {
  return stages_.size() > 1 ? std::optional(stages_[1]) : std::nullopt;
}

std::optional<Stage> ModelPartition::head() const {
  return stages_.size() > 2 ? std::optional(stages_[2]) : std::nullopt;
}

std::vector<int64_t> ModelPartition::activation_shape(const ModelDefinition& definition,
                                                      int64_t batch) const {
  return shape_after(definition, front().last, batch);
}

std::vector<int64_t> ModelPartition::output_shape(const ModelDefinition& definition, int64_t batch) const {
  return shape_after(definition, tail().value_or(front()).last, batch);
}

int64_t ModelPartition::evaluation_batch_size(const ModelDefinition& definition) const {
  constexpr int64_t kMostExamples = 256;
  constexpr int64_t kMostValues = int64_t{1} << 22;  // 16 MiB of float32
  int64_t largest = 1;
  for (const std::vector<int64_t>& shape : {activation_shape(definition, 1), output_shape(definition, 1)}) {
    largest = std::max(largest, std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>()));
  }
  return std::clamp<int64_t>(kMostValues / largest, 1, kMostExamples);
}

}  // namespace tandem
