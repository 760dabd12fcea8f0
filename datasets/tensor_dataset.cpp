#include "tandem/datasets/tensor_dataset.h"

#include <ATen/ops/empty.h>

#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace tandem::datasets {
namespace {

[[noreturn]] void refuse(const std::string& problem) {
  throw std::invalid_argument("TensorDataset: " + problem);
}

void check_inputs(const at::Tensor& inputs) {
  if (!inputs.defined() || inputs.dim() < 2) refuse("inputs need a batch dimension and at least one other");
  if (inputs.scalar_type() != at::kByte && inputs.scalar_type() != at::kFloat) {
    refuse("inputs must be uint8 or float32 [N, ...]");
  }
  if (!inputs.device().is_cpu()) refuse("inputs must lie in main memory");
}

void check_labels(const at::Tensor& labels, int64_t num_examples, int64_t num_classes) {
  if (!labels.defined() || labels.dim() != 1 || labels.scalar_type() != at::kLong ||
      !labels.device().is_cpu()) {
    refuse("labels must be int64 [N]");
  }
  if (labels.size(0) != num_examples) {
    refuse(std::to_string(num_examples) + " inputs but " + std::to_string(labels.size(0)) + " labels");
  }
  if (num_classes < 2) refuse("num_classes must be >= 2, got " + std::to_string(num_classes));
  const int64_t* values = labels.data_ptr<int64_t>();
  for (int64_t i = 0; i < num_examples; ++i) {
    if (values[i] < 0 || values[i] >= num_classes) {
      refuse("label " + std::to_string(values[i]) + " of example " + std::to_string(i) + " is outside 0.." +
             std::to_string(num_classes - 1));
    }
  }
}

/// Copies the rows of those numbers, each `row_bytes` long.
void copy_rows(const at::Tensor& from, std::span<const int64_t> indices, size_t row_bytes, at::Tensor& to) {
  const auto* source = static_cast<const std::byte*>(from.data_ptr());
  auto* target = static_cast<std::byte*>(to.data_ptr());
  for (const int64_t index : indices) {
    std::memcpy(target, source + static_cast<size_t>(index) * row_bytes, row_bytes);
    target += row_bytes;
  }
}

}  // namespace

TensorDataset::TensorDataset(at::Tensor inputs, at::Tensor labels, int64_t num_classes)
    : num_classes_(num_classes) {
  check_inputs(inputs);
  inputs_ = inputs.detach().contiguous();
  labels_ = labels.defined() ? labels.detach().contiguous() : labels;
  check_labels(labels_, inputs_.size(0), num_classes);
}

DataDescription TensorDataset::describe() const {
  return {inputs_.sizes().slice(1).vec(), num_classes_, inputs_.size(0)};
}

Batch TensorDataset::get(std::span<const int64_t> indices) const {
  const int64_t num_examples = inputs_.size(0);
  for (const int64_t index : indices) {
    if (index < 0 || index >= num_examples) {
      refuse("example " + std::to_string(index) + " is outside 0.." + std::to_string(num_examples - 1));
    }
  }
  std::vector<int64_t> shape = inputs_.sizes().vec();
  shape[0] = static_cast<int64_t>(indices.size());
  Batch batch{at::empty(shape, inputs_.options()), at::empty({shape[0]}, at::kLong)};
  if (indices.empty()) return batch;
  const size_t row_bytes = batch.inputs.nbytes() / indices.size();
  copy_rows(inputs_, indices, row_bytes, batch.inputs);
  copy_rows(labels_, indices, sizeof(int64_t), batch.labels);
  return batch;
}

}  // namespace tandem::datasets
