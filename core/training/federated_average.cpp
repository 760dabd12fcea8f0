#include "tandem/core/training/federated_average.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <stdexcept>
#include <utility>

namespace tandem {
namespace {

bool is_averaged(const at::Tensor& tensor) {
  return at::isFloatingType(tensor.scalar_type());
}

at::TensorOptions sum_options(const at::Tensor& layout) {
  return layout.options().dtype(is_averaged(layout) ? at::kDouble : layout.scalar_type());
}

at::Tensor initial_sum(const at::Tensor& update, const at::Tensor& layout, uint64_t examples) {
  at::Tensor sum = at::empty_like(layout, sum_options(layout));
  sum.copy_(update);
  if (is_averaged(layout)) sum.mul_(static_cast<double>(examples));
  return sum;
}

void accumulate(at::Tensor& sum, const at::Tensor& update, uint64_t examples) {
  if (is_averaged(update)) {
    // n_k * w_k is exact: 24 bits of a float and at most 29 of a count fit in the 53 of a double.
    sum.add_(update.to(at::kDouble), static_cast<double>(examples));
  } else {
    sum.copy_(at::maximum(sum, update));
  }
}

}  // namespace

Error of_client(const ClientId& client, const Error& error) {
  return {error.code, "update of client " + client.name + ": " + error.message};
}

FederatedAverage::FederatedAverage(NamedTensors layout) : layout_(std::move(layout)) {}

Result<void> FederatedAverage::add(const ClientId& client, const NamedTensors& update, uint64_t examples) {
  if (examples < 1) {
    throw std::invalid_argument("FederatedAverage.add: examples of client " + client.name +
                                " must be >= 1, got 0");
  }
  if (auto checked = check_same_layout(layout_, update); !checked) return of_client(client, checked.error());
  if (auto checked = check_finite(update); !checked) return of_client(client, checked.error());
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < update.size(); ++i) {
    if (clients_ == 0) {
      sums_.push_back(initial_sum(update[i].tensor, layout_[i].tensor, examples));
    } else {
      accumulate(sums_[i], update[i].tensor, examples);
    }
  }
  ++clients_;
  examples_ += examples;
  return {};
}

NamedTensors FederatedAverage::sums() const {
  NamedTensors named;
  for (size_t i = 0; i < sums_.size(); ++i) named.push_back({layout_[i].name, sums_[i]});
  return named;
}

Result<void> FederatedAverage::load(const NamedTensors& sums, int clients, uint64_t examples) {
  NamedTensors layout;
  for (const NamedTensor& entry : layout_) {
    layout.push_back({entry.name, at::empty_like(entry.tensor, sum_options(entry.tensor))});
  }
  if (auto checked = check_same_layout(layout, sums); !checked) return checked;
  if (auto checked = check_finite(sums); !checked) return checked;
  if (clients < 1 || examples < static_cast<uint64_t>(clients)) {
    return Error{ErrorCode::kInvalidArgument, "sums of " + std::to_string(clients) + " clients and " +
                                                  std::to_string(examples) + " examples"};
  }
  sums_.clear();
  for (const NamedTensor& entry : sums) sums_.push_back(entry.tensor.clone());
  clients_ = clients;
  examples_ = examples;
  return {};
}

NamedTensors FederatedAverage::mean() const {
  if (clients_ == 0) throw std::logic_error("FederatedAverage.mean: no update was added");
  const at::NoGradGuard no_grad;
  NamedTensors mean;
  mean.reserve(layout_.size());
  for (size_t i = 0; i < layout_.size(); ++i) {
    const bool averaged = is_averaged(layout_[i].tensor);
    const at::Tensor value = averaged ? at::div(sums_[i], static_cast<double>(examples_)) : sums_[i];
    mean.push_back({layout_[i].name, at::empty_like(layout_[i].tensor).copy_(value)});
  }
  return mean;
}

}  // namespace tandem
