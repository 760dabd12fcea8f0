#include "tandem/core/training/optimizer.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cmath>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <utility>
#include <vector>

namespace tandem {
namespace {

void require(bool holds, const char* field, const char* rule, double value) {
  if (holds) return;
  std::ostringstream message;
  message << "OptimizerOptions." << field << " must be " << rule << ", got " << value;
  throw std::invalid_argument(message.str());
}

bool is_adam(OptimizerKind kind) {
  return kind != OptimizerKind::kSgd;
}

constexpr const char* kAppliedSteps = "applied_steps";

/// One parameter and what the optimiser remembers of it.
struct Slot {
  std::string name;
  at::Tensor parameter;
  at::Tensor scratch;  ///< the parameter's shape; every slot's lies in the same memory
  at::Tensor first;    ///< momentum, or Adam's mean of gradients; undefined until touched
  at::Tensor second;   ///< Adam's mean of squared gradients
};

using Buffers = std::vector<std::pair<at::Tensor, at::Tensor>>;  // first and second of each slot

}  // namespace

OptimizerOptions OptimizerOptions::validated() const {
  require(kind <= OptimizerKind::kAdamW, "kind", "0 (sgd), 1 (adam) or 2 (adamw)", static_cast<double>(kind));
  require(learning_rate > 0.0 && std::isfinite(learning_rate), "learning_rate", "> 0 and finite",
          learning_rate);
  require(momentum >= 0.0 && momentum < 1.0, "momentum", "in [0, 1)", momentum);
  require(weight_decay >= 0.0 && std::isfinite(weight_decay), "weight_decay", ">= 0 and finite",
          weight_decay);
  require(beta1 >= 0.0 && beta1 < 1.0, "beta1", "in [0, 1)", beta1);
  require(beta2 >= 0.0 && beta2 < 1.0, "beta2", "in [0, 1)", beta2);
  require(epsilon > 0.0 && std::isfinite(epsilon), "epsilon", "> 0 and finite", epsilon);
  require(clip_norm >= 0.0 && std::isfinite(clip_norm), "clip_norm", ">= 0 and finite", clip_norm);
  return *this;
}

struct Optimizer::Impl {
  Impl(OptimizerOptions resolved, const NamedTensors& parameters);

  double clip_factor() const;
  at::Tensor gradient(const Slot& slot, double clip) const;
  void step_sgd(Slot& slot, const at::Tensor& gradient, double learning_rate);
  void step_adam(Slot& slot, const at::Tensor& gradient, double learning_rate);
  std::string first_name(const Slot& slot) const;
  std::string second_name(const Slot& slot) const { return slot.name + ".exp_avg_sq"; }
  Result<void> place(const NamedTensor& entry, Buffers& buffers) const;

  OptimizerOptions options;
  std::vector<Slot> slots;
  int64_t applied_steps = 0;
};

Optimizer::Impl::Impl(OptimizerOptions resolved, const NamedTensors& parameters) : options(resolved) {
  const bool decays_gradient = options.weight_decay > 0.0 && options.kind != OptimizerKind::kAdamW;
  const bool needs_scratch = is_adam(options.kind) || decays_gradient || options.clip_norm > 0.0;
  int64_t largest = 0;
  for (const NamedTensor& entry : parameters) {
    if (!entry.tensor.is_non_overlapping_and_dense()) {
      throw std::invalid_argument("Optimizer: parameter " + entry.name + " is not dense");
    }
    slots.push_back({entry.name, entry.tensor, {}, {}, {}});
    largest = std::max(largest, entry.tensor.numel());
  }
  if (!needs_scratch || slots.empty()) return;
  const at::Tensor scratch = at::empty({largest}, parameters.front().tensor.detach().options());
  for (Slot& slot : slots)
    slot.scratch = scratch.as_strided(slot.parameter.sizes(), slot.parameter.strides());
}

/// torch.nn.utils.clip_grad_norm_: clip / (norm + 1e-6) where that is below 1, in float as there.
double Optimizer::Impl::clip_factor() const {
  if (options.clip_norm == 0.0) return 1.0;
  std::vector<at::Tensor> norms;
  for (const Slot& slot : slots) {
    if (slot.parameter.grad().defined()) norms.push_back(slot.parameter.grad().norm());
  }
  if (norms.empty()) return 1.0;
  const at::Tensor norm = norms.size() == 1 ? norms.front() : at::stack(norms).norm();
  return std::min(1.0, (options.clip_norm / (norm + 1e-6)).item<double>());
}

/// The gradient that the formulas start from. The model's own stays as backward left it.
at::Tensor Optimizer::Impl::gradient(const Slot& slot, double clip) const {
  at::Tensor value = slot.parameter.grad();
  at::Tensor scratch = slot.scratch;
  if (clip < 1.0) {
    at::mul_out(scratch, value, at::scalar_tensor(clip, value.options()));
    value = scratch;
  }
  if (options.weight_decay > 0.0 && options.kind != OptimizerKind::kAdamW) {
    at::add_out(scratch, value, slot.parameter, options.weight_decay);
    value = scratch;
  }
  return value;
}

void Optimizer::Impl::step_sgd(Slot& slot, const at::Tensor& gradient, double learning_rate) {
  at::Tensor direction = gradient;
  if (options.momentum > 0.0) {
    if (slot.first.defined()) {
      slot.first.mul_(options.momentum).add_(gradient);
    } else {
      slot.first = at::empty_like(slot.parameter).copy_(gradient);
    }
    direction = slot.first;
  }
  slot.parameter.add_(direction, -learning_rate);
}

/// Kingma and Ba 2015, Alg. 1; the decoupled decay of AdamW: Loshchilov and Hutter 2019, Alg. 2, line 12.
void Optimizer::Impl::step_adam(Slot& slot, const at::Tensor& gradient, double learning_rate) {
  if (options.kind == OptimizerKind::kAdamW && options.weight_decay > 0.0) {
    slot.parameter.mul_(1.0 - learning_rate * options.weight_decay);
  }
  if (!slot.first.defined()) {
    slot.first = at::zeros_like(slot.parameter);
    slot.second = at::zeros_like(slot.parameter);
  }
  slot.first.mul_(options.beta1).add_(gradient, 1.0 - options.beta1);
  slot.second.mul_(options.beta2).addcmul_(gradient, gradient, 1.0 - options.beta2);
  const auto steps = static_cast<double>(applied_steps + 1);
  const double correction1 = 1.0 - std::pow(options.beta1, steps);
  const double correction2 = 1.0 - std::pow(options.beta2, steps);
  // `gradient` may lie in the scratch memory; from here on it is no longer needed.
  at::Tensor denominator = slot.scratch;
  at::sqrt_out(denominator, slot.second);
  denominator.div_(std::sqrt(correction2)).add_(options.epsilon);
  slot.parameter.addcdiv_(slot.first, denominator, -learning_rate / correction1);
}

std::string Optimizer::Impl::first_name(const Slot& slot) const {
  return slot.name + (is_adam(options.kind) ? ".exp_avg" : ".momentum");
}

/// Finds where a state tensor belongs and checks that it fits there.
Result<void> Optimizer::Impl::place(const NamedTensor& entry, Buffers& buffers) const {
  for (size_t i = 0; i < slots.size(); ++i) {
    const bool is_first = entry.name == first_name(slots[i]);
    const bool is_second = is_adam(options.kind) && entry.name == second_name(slots[i]);
    if (!is_first && !is_second) continue;
    const NamedTensors expected{{entry.name, slots[i].parameter}};
    if (auto checked = check_same_layout(expected, {entry}); !checked) {
      return Error{ErrorCode::kShapeMismatch, "optimizer state: " + checked.error().message};
    }
    const at::Tensor copy = at::empty_like(slots[i].parameter).copy_(entry.tensor);
    (is_first ? buffers[i].first : buffers[i].second) = copy;
    return {};
  }
  return Error{ErrorCode::kShapeMismatch, "optimizer state: " + entry.name +
                                              " belongs to no parameter of this " +
                                              optimizer_name(options.kind) + " optimizer"};
}

Optimizer::Optimizer(OptimizerOptions options, NamedTensors parameters)
    : impl_(std::make_unique<Impl>(options.validated(), parameters)) {}

Optimizer::~Optimizer() = default;

void Optimizer::step(double lr_factor) {
  if (!(lr_factor >= 0.0) || !std::isfinite(lr_factor)) {
    throw std::invalid_argument("Optimizer.step: lr_factor must be >= 0 and finite, got " +
                                std::to_string(lr_factor));
  }
  const at::NoGradGuard no_grad;
  const double learning_rate = impl_->options.learning_rate * lr_factor;
  const double clip = impl_->clip_factor();
  for (Slot& slot : impl_->slots) {
    if (!slot.parameter.grad().defined()) continue;
    const at::Tensor gradient = impl_->gradient(slot, clip);
    if (is_adam(impl_->options.kind)) {
      impl_->step_adam(slot, gradient, learning_rate);
    } else {
      impl_->step_sgd(slot, gradient, learning_rate);
    }
  }
  ++impl_->applied_steps;
}

int64_t Optimizer::applied_steps() const {
  return impl_->applied_steps;
}

NamedTensors Optimizer::state() const {
  NamedTensors state;
  for (const Slot& slot : impl_->slots) {
    if (slot.first.defined()) state.push_back({impl_->first_name(slot), slot.first});
    if (slot.second.defined()) state.push_back({impl_->second_name(slot), slot.second});
  }
  state.push_back({kAppliedSteps, at::scalar_tensor(impl_->applied_steps, at::kLong)});
  return state;
}

Result<void> Optimizer::load_state(const NamedTensors& state) {
  const at::NoGradGuard no_grad;
  Buffers buffers(impl_->slots.size());
  std::optional<int64_t> steps;
  const NamedTensors counter{{kAppliedSteps, at::scalar_tensor(int64_t{0}, at::kLong)}};
  for (const NamedTensor& entry : state) {
    if (entry.name != kAppliedSteps) {
      if (auto placed = impl_->place(entry, buffers); !placed) return placed;
      continue;
    }
    if (auto checked = check_same_layout(counter, {entry}); !checked) return checked;
    steps = entry.tensor.item<int64_t>();
  }
  if (!steps || *steps < 0) {
    return Error{ErrorCode::kShapeMismatch, "optimizer state: applied_steps must be there and >= 0"};
  }
  for (size_t i = 0; i < buffers.size(); ++i) {
    if (!is_adam(impl_->options.kind) || buffers[i].first.defined() == buffers[i].second.defined()) continue;
    return Error{ErrorCode::kShapeMismatch,
                 "optimizer state: only one of exp_avg and exp_avg_sq is there for " + impl_->slots[i].name};
  }
  for (size_t i = 0; i < buffers.size(); ++i) {
    std::tie(impl_->slots[i].first, impl_->slots[i].second) = std::move(buffers[i]);
  }
  impl_->applied_steps = *steps;
  return {};
}

const char* optimizer_name(OptimizerKind kind) {
  switch (kind) {
    case OptimizerKind::kSgd:
      return "sgd";
    case OptimizerKind::kAdam:
      return "adam";
    case OptimizerKind::kAdamW:
      return "adamw";
  }
  throw std::invalid_argument("optimizer_name: unknown kind " + std::to_string(static_cast<int>(kind)));
}

}  // namespace tandem
