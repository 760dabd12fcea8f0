#include "tandem/core/model/named_tensors.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cmath>
#include <sstream>

namespace tandem {
namespace {

std::string describe(const NamedTensor& entry) {
  if (!entry.tensor.defined()) return entry.name + " (undefined)";
  std::ostringstream text;
  text << entry.name << " (" << c10::toString(entry.tensor.scalar_type()) << ' ' << entry.tensor.sizes()
       << ')';
  return text.str();
}

bool same_layout(const NamedTensor& a, const NamedTensor& b) {
  return a.name == b.name && a.tensor.defined() && b.tensor.defined() &&
         a.tensor.scalar_type() == b.tensor.scalar_type() && a.tensor.sizes() == b.tensor.sizes();
}

bool is_finite(const at::Tensor& tensor) {
  if (tensor.numel() == 0 || !at::isFloatingType(tensor.scalar_type())) return true;
  const auto type = tensor.scalar_type();
  if (type != at::kFloat && type != at::kDouble) return at::isfinite(tensor).all().item<bool>();
  // The extremes carry NaN along, and finding them allocates nothing: a third of the time of
  // isfinite().all().
  const at::Tensor dense =
      tensor.is_non_overlapping_and_dense() ? tensor.as_strided({tensor.numel()}, {1}) : tensor;
  const auto [low, high] = at::aminmax(dense);
  return std::isfinite(low.item<double>()) && std::isfinite(high.item<double>());
}

}  // namespace

NamedTensors snapshot(const NamedTensors& tensors) {
  NamedTensors copies;
  copies.reserve(tensors.size());
  for (const NamedTensor& entry : tensors) {
    copies.push_back({entry.name, entry.tensor.detach().clone(at::MemoryFormat::Preserve)});
  }
  return copies;
}

NamedTensors cpu_snapshot(const NamedTensors& tensors) {
  NamedTensors copies = snapshot(tensors);
  for (NamedTensor& entry : copies) entry.tensor = entry.tensor.cpu();
  return copies;
}

void copy_values(const NamedTensors& from, const NamedTensors& to) {
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < from.size(); ++i) at::Tensor(to[i].tensor).copy_(from[i].tensor);
}

Result<void> check_same_layout(const NamedTensors& reference, const NamedTensors& candidate) {
  for (size_t i = 0; i < reference.size() || i < candidate.size(); ++i) {
    if (i < reference.size() && i < candidate.size() && same_layout(reference[i], candidate[i])) continue;
    const std::string expected = i < reference.size() ? describe(reference[i]) : "none";
    const std::string found = i < candidate.size() ? describe(candidate[i]) : "none";
    return Error{ErrorCode::kShapeMismatch, "tensor " + std::to_string(i + 1) + " of " +
                                                std::to_string(reference.size()) + ": expected " + expected +
                                                ", got " + found};
  }
  return {};
}

Result<void> check_finite(const NamedTensors& tensors) {
  const at::NoGradGuard no_grad;
  for (const NamedTensor& entry : tensors) {
    if (!is_finite(entry.tensor)) {
      return Error{ErrorCode::kNonFinite, "tensor " + entry.name + " holds NaN or infinity"};
    }
  }
  return {};
}

void append(NamedTensors& all, const NamedTensors& more, const std::string& prefix) {
  for (const NamedTensor& entry : more) all.push_back({prefix + entry.name, entry.tensor});
}

NamedTensors without_prefix(const NamedTensors& tensors, const std::string& prefix) {
  NamedTensors found;
  for (const NamedTensor& entry : tensors) {
    if (entry.name.starts_with(prefix)) found.push_back({entry.name.substr(prefix.size()), entry.tensor});
  }
  return found;
}

NamedTensors named_like(const NamedTensors& layout, const NamedTensors& tensors) {
  NamedTensors found;
  for (const NamedTensor& entry : tensors) {
    if (find_tensor(layout, entry.name) != nullptr) found.push_back(entry);
  }
  return found;
}

NamedTensors tensors_of_blocks(const NamedTensors& tensors, int first, int last) {
  NamedTensors found;
  for (const NamedTensor& entry : tensors) {
    const int block = std::stoi(entry.name.substr(0, entry.name.find('.')));
    if (block >= first && block < last) found.push_back(entry);
  }
  return found;
}

int64_t total_bytes(const NamedTensors& tensors) {
  int64_t bytes = 0;
  for (const NamedTensor& entry : tensors) {
    bytes += entry.tensor.numel() * static_cast<int64_t>(entry.tensor.element_size());
  }
  return bytes;
}

const at::Tensor* find_tensor(const NamedTensors& tensors, const std::string& name) {
  for (const NamedTensor& entry : tensors) {
    if (entry.name == name) return &entry.tensor;
  }
  return nullptr;
}

}  // namespace tandem
