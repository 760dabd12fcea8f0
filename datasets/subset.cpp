#include "tandem/datasets/subset.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <numeric>
#include <stdexcept>
#include <string>
#include <utility>

namespace tandem::datasets {
namespace {

void check_index(int64_t index, int64_t size) {
  if (index >= 0 && index < size) return;
  throw std::invalid_argument("Subset: example " + std::to_string(index) + " is outside 0.." +
                              std::to_string(size - 1));
}

void append_labels(const at::Tensor& labels, std::vector<int64_t>& all) {
  const int64_t* values = labels.data_ptr<int64_t>();
  all.insert(all.end(), values, values + labels.numel());
}

}  // namespace

Subset::Subset(std::shared_ptr<const Dataset> whole, std::vector<int64_t> indices)
    : whole_(std::move(whole)), indices_(std::move(indices)) {
  if (!whole_) throw std::invalid_argument("Subset: no data set");
  const int64_t size = whole_->describe().num_examples;
  for (const int64_t index : indices_) check_index(index, size);
}

DataDescription Subset::describe() const {
  DataDescription description = whole_->describe();
  description.num_examples = static_cast<int64_t>(indices_.size());
  return description;
}

Batch Subset::get(std::span<const int64_t> indices) const {
  std::vector<int64_t> mapped;
  mapped.reserve(indices.size());
  for (const int64_t index : indices) {
    check_index(index, static_cast<int64_t>(indices_.size()));
    mapped.push_back(indices_[static_cast<size_t>(index)]);
  }
  return whole_->get(mapped);
}

std::shared_ptr<const TensorDataset> copy_examples(const Dataset& whole, std::span<const int64_t> indices) {
  Batch batch = whole.get(indices);
  return std::make_shared<TensorDataset>(std::move(batch.inputs), std::move(batch.labels),
                                         whole.describe().num_classes);
}

std::vector<int64_t> read_labels(const Dataset& dataset) {
  std::vector<int64_t> labels;
  if (const auto* in_memory = dynamic_cast<const TensorDataset*>(&dataset)) {
    append_labels(in_memory->labels(), labels);
    return labels;
  }
  // In pieces, because get() brings the inputs along.
  const int64_t size = dataset.describe().num_examples;
  for (int64_t begin = 0; begin < size; begin += 1024) {
    std::vector<int64_t> indices(static_cast<size_t>(std::min<int64_t>(1024, size - begin)));
    std::iota(indices.begin(), indices.end(), begin);
    append_labels(dataset.get(indices).labels, labels);
  }
  return labels;
}

}  // namespace tandem::datasets
