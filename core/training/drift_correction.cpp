#include "tandem/core/training/drift_correction.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cmath>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <utility>

namespace tandem {
namespace {

// Names of its state.
constexpr const char* kControl = "control.";
constexpr const char* kAnchor = "anchor.";
constexpr const char* kServerControl = "server_control.";
constexpr const char* kLearningRates = "learning_rates";

/// Copies in the memory format and on the device of `like`, which they fit.
NamedTensors copy_as(const NamedTensors& like, const NamedTensors& values) {
  NamedTensors copies;
  for (size_t i = 0; i < like.size(); ++i) {
    copies.push_back({values[i].name, at::empty_like(like[i].tensor.detach()).copy_(values[i].tensor)});
  }
  return copies;
}

/// Those of `tensors` that have the parameters' names, in their order; a missing one is left undefined.
NamedTensors select(const NamedTensors& parameters, const NamedTensors& tensors) {
  std::unordered_map<std::string, at::Tensor> by_name;
  for (const NamedTensor& entry : tensors) by_name.emplace(entry.name, entry.tensor);
  NamedTensors selected;
  for (const NamedTensor& entry : parameters) selected.push_back({entry.name, by_name[entry.name]});
  return selected;
}

Result<void> check(const std::string& what, const NamedTensors& expected, const NamedTensors& found) {
  auto checked = check_same_layout(expected, found);
  if (checked) checked = check_finite(found);
  if (!checked) return Error{checked.error().code, what + ": " + checked.error().message};
  return {};
}

}  // namespace

DriftCorrectionOptions DriftCorrectionOptions::validated() const {
  if (!(proximal_mu >= 0) || !std::isfinite(proximal_mu)) {
    throw std::invalid_argument("DriftCorrectionOptions.proximal_mu must be >= 0 and finite, got " +
                                std::to_string(proximal_mu));
  }
  return *this;
}

DriftCorrection::DriftCorrection(DriftCorrectionOptions options, NamedTensors parameters)
    : options_(options.validated()), parameters_(std::move(parameters)) {
  if (!options_.control_variates) return;
  for (const NamedTensor& entry : parameters_) {
    control_.push_back({kControl + entry.name, at::zeros_like(entry.tensor.detach())});
  }
}

Result<void> DriftCorrection::begin_round(const NamedTensors& server_control) {
  const at::NoGradGuard no_grad;
  NamedTensors control;
  if (options_.control_variates && !server_control.empty()) {
    control = select(parameters_, server_control);
    if (auto checked = check("server control", parameters_, control); !checked) return checked;
    control = copy_as(parameters_, control);
  }
  server_control_ = std::move(control);
  learning_rates_ = 0;
  if (active()) anchor_ = snapshot(parameters_);
  return {};
}

void DriftCorrection::correct(double learning_rate) {
  if (!active()) return;
  if (anchor_.size() != parameters_.size()) {
    throw std::logic_error("DriftCorrection.correct is called outside a round");
  }
  if (!(learning_rate >= 0) || !std::isfinite(learning_rate)) {
    throw std::invalid_argument("DriftCorrection.correct: learning_rate must be >= 0 and finite, got " +
                                std::to_string(learning_rate));
  }
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const at::Tensor& weight = parameters_[i].tensor;
    at::Tensor gradient = weight.grad();
    if (!gradient.defined()) continue;
    // Each difference is taken first: where both sides are equal the gradient stays as it is, to the bit. A
    // remainder of rounding would be magnified by Adam, which divides by its size.
    if (options_.proximal_mu > 0) {
      gradient.add_(at::sub(weight, anchor_[i].tensor), options_.proximal_mu);
    }
    // SCAFFOLD, Karimireddy et al. 2020, Alg. 1, line 10; an empty c stands for zeros.
    if (control_.empty()) continue;
    if (server_control_.empty()) {
      gradient.sub_(control_[i].tensor);
    } else {
      gradient.add_(at::sub(server_control_[i].tensor, control_[i].tensor));
    }
  }
  learning_rates_ += learning_rate;
}

NamedTensors DriftCorrection::end_round() {
  const at::NoGradGuard no_grad;
  NamedTensors changes;
  if (options_.control_variates && learning_rates_ > 0) {
    for (size_t i = 0; i < parameters_.size(); ++i) {
      // Alg. 1, line 12, option II
      at::Tensor change = (anchor_[i].tensor - parameters_[i].tensor).div_(learning_rates_);
      if (!server_control_.empty()) change.sub_(server_control_[i].tensor);
      control_[i].tensor = control_[i].tensor + change;
      changes.push_back({parameters_[i].name, std::move(change)});
    }
  }
  anchor_.clear();
  server_control_.clear();
  learning_rates_ = 0;
  return changes;
}

NamedTensors DriftCorrection::state() const {
  NamedTensors state = control_;
  if (anchor_.empty()) return state;
  append(state, anchor_, kAnchor);
  append(state, server_control_, kServerControl);
  state.push_back({kLearningRates, at::scalar_tensor(learning_rates_, at::kDouble)});
  return state;
}

Result<void> DriftCorrection::load_state(const NamedTensors& state) {
  NamedTensors control;
  append(control, without_prefix(state, kControl), kControl);
  const NamedTensors anchor = without_prefix(state, kAnchor);
  const NamedTensors server_control = without_prefix(state, kServerControl);
  const at::Tensor* learning_rates = find_tensor(state, kLearningRates);
  if (auto checked = check("drift correction state", control_, control); !checked) return checked;
  if (!anchor.empty()) {
    if (auto checked = check("anchor of the drift correction", parameters_, anchor); !checked) return checked;
    if (!active() || learning_rates == nullptr || learning_rates->numel() != 1) {
      return Error{ErrorCode::kShapeMismatch, "drift correction state: an anchor without what belongs to it"};
    }
  }
  if (!server_control.empty()) {
    if (auto checked = check("server control", parameters_, server_control); !checked) return checked;
  }
  control_ = copy_as(control_, control);
  anchor_ = anchor.empty() ? NamedTensors{} : copy_as(parameters_, anchor);
  server_control_ = server_control.empty() ? NamedTensors{} : copy_as(parameters_, server_control);
  learning_rates_ = anchor.empty() ? 0 : learning_rates->item<double>();
  return {};
}

bool DriftCorrection::owns(const std::string& state_name) {
  return state_name == kLearningRates || state_name.starts_with(kControl) ||
         state_name.starts_with(kAnchor) || state_name.starts_with(kServerControl);
}

}  // namespace tandem
