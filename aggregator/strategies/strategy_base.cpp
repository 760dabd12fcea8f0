#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <stdexcept>
#include <utility>

#include "tandem/aggregator/strategies/strategy_base_detail.h"

namespace tandem::aggregator {

bool is_parameter(const NamedTensor& entry, const std::set<std::string>& buffers) {
  return at::isFloatingType(entry.tensor.scalar_type()) && buffers.count(entry.name) == 0;
}

NamedTensors parameters_of(const NamedTensors& tensors, const std::set<std::string>& buffers) {
  NamedTensors parameters;
  for (const NamedTensor& entry : tensors) {
    if (is_parameter(entry, buffers)) parameters.push_back(entry);
  }
  return parameters;
}

ServerState::ServerState(std::string owner, std::vector<std::string> kinds, at::ScalarType dtype)
    : owner_(std::move(owner)), kinds_(std::move(kinds)), dtype_(dtype) {}

void ServerState::set(std::vector<NamedTensors> tensors) {
  tensors_ = std::move(tensors);
}

Result<void> ServerState::check_fits(const NamedTensors& parameters) const {
  if (empty()) return {};
  NamedTensors expected;
  for (const NamedTensor& entry : parameters) {
    expected.push_back({entry.name, at::empty_like(entry.tensor, entry.tensor.options().dtype(dtype_))});
  }
  // `load` has compared the kinds with each other.
  const auto checked = check_same_layout(expected, tensors_.front());
  if (checked) return {};
  return Error{ErrorCode::kShapeMismatch, "state of " + owner_ + " (" + kinds_.front() +
                                              ") does not fit the model: " + checked.error().message};
}

Result<void> ServerState::check_all_finite() const {
  for (const NamedTensors& tensors : tensors_) {
    if (auto checked = check_finite(tensors); !checked) return checked;
  }
  return {};
}

NamedTensors ServerState::save() const {
  NamedTensors all;
  for (size_t kind = 0; kind < tensors_.size(); ++kind) {
    for (const NamedTensor& entry : snapshot(tensors_[kind])) {
      all.push_back({kinds_[kind] + "." + entry.name, entry.tensor});
    }
  }
  return all;
}

Result<size_t> ServerState::kind_of(const NamedTensor& entry) const {
  if (kinds_.empty()) {
    return Error{ErrorCode::kInvalidArgument, owner_ + " keeps no state, got " + entry.name};
  }
  for (size_t kind = 0; kind < kinds_.size(); ++kind) {
    if (entry.name.rfind(kinds_[kind] + ".", 0) != 0) continue;
    if (entry.tensor.defined() && entry.tensor.scalar_type() == dtype_) return kind;
    return Error{
        ErrorCode::kShapeMismatch,
        "state of " + owner_ + ": " + entry.name + " must be " + c10::toString(dtype_) + ", got " +
            (entry.tensor.defined() ? c10::toString(entry.tensor.scalar_type()) : "an undefined tensor")};
  }
  return Error{ErrorCode::kInvalidArgument,
               "state of " + owner_ + ": " + entry.name + " does not begin with " + kinds_.front() + "."};
}

Result<void> ServerState::load(const NamedTensors& state) {
  std::vector<NamedTensors> loaded(kinds_.size());
  for (const NamedTensor& entry : state) {
    const auto kind = kind_of(entry);
    if (!kind) return kind.error();
    loaded[*kind].push_back({entry.name.substr(kinds_[*kind].size() + 1), entry.tensor});
  }
  if (auto checked = check_finite(state); !checked) {
    return Error{checked.error().code, "state of " + owner_ + ": " + checked.error().message};
  }
  for (size_t kind = 1; kind < kinds_.size(); ++kind) {
    if (auto checked = check_same_layout(loaded.front(), loaded[kind]); !checked) {
      return Error{checked.error().code, "state of " + owner_ + ": " + kinds_[kind] + " against " +
                                             kinds_.front() + ": " + checked.error().message};
    }
  }
  if (state.empty()) loaded.clear();
  for (NamedTensors& tensors : loaded) tensors = snapshot(tensors);
  tensors_ = std::move(loaded);
  return {};
}

StrategyBase::StrategyBase(std::string name, std::set<std::string> buffers,
                           std::vector<std::string> state_kinds, at::ScalarType state_dtype)
    : state_(name, std::move(state_kinds), state_dtype),
      name_(std::move(name)),
      buffers_(std::move(buffers)) {}

void StrategyBase::begin(const NamedTensors& global) {
  global_ = snapshot(global);
  merging_ = true;
  updates_ = 0;
  reset();
}

Result<void> StrategyBase::add(ClientUpdate update) {
  if (!merging_) throw std::logic_error("Strategy.add: begin was not called");
  if (update.examples < 1) {
    throw std::invalid_argument("ClientUpdate.examples of client " + update.client.name +
                                " must be >= 1, got 0");
  }
  const at::NoGradGuard no_grad;
  auto accepted = accept(std::move(update));
  if (accepted) ++updates_;
  return accepted;
}

Result<NamedTensors> StrategyBase::merge() {
  if (!merging_) throw std::logic_error("Strategy.merge: begin was not called");
  const at::NoGradGuard no_grad;
  Result<NamedTensors> merged = NamedTensors{};
  const int minimum = minimum_updates();
  if (updates_ < minimum) {
    const std::string reason = minimum_reason();
    merged = Error{ErrorCode::kInvalidArgument,
                   name_ + " needs at least " + std::to_string(minimum) +
                       (minimum == 1 ? " update" : " updates") + (reason.empty() ? "" : " (") + reason +
                       (reason.empty() ? "" : ")") + ", got " + std::to_string(updates_)};
  } else if (auto fits = state_.check_fits(parameters_of(global_, buffers_)); !fits) {
    merged = fits.error();
  } else {
    merged = finish_checked();
  }
  global_.clear();
  merging_ = false;
  updates_ = 0;
  reset();
  return merged;
}

Result<NamedTensors> StrategyBase::finish_checked() {
  const ServerState before = state_;  // aliases: `set` replaces, nothing is written in place
  auto merged = finish();
  if (!merged) return merged;
  auto finite = check_finite(*merged);
  if (finite) finite = state_.check_all_finite();
  if (finite) return merged;
  state_ = before;
  return Error{ErrorCode::kNonFinite, "merge by " + name_ + " overflows: " + finite.error().message};
}

Result<void> StrategyBase::check_weights(const ClientUpdate& update) const {
  if (auto checked = check_same_layout(global_, update.weights); !checked) {
    return of_client(update.client, checked.error());
  }
  if (auto checked = check_finite(update.weights); !checked) {
    return of_client(update.client, checked.error());
  }
  return {};
}

namespace {

NamedTensors rest_of(const NamedTensors& tensors, const std::set<std::string>& buffers) {
  NamedTensors rest;
  for (const NamedTensor& entry : tensors) {
    if (!is_parameter(entry, buffers)) rest.push_back(entry);
  }
  return rest;
}

// Names in the state of a sum.
constexpr const char* kChange = "change.";
constexpr const char* kRest = "rest.";
constexpr const char* kCounts = "counts";

at::Tensor double_zeros(const at::Tensor& like) {
  return at::zeros_like(like, like.options().dtype(at::kDouble));
}

}  // namespace

DeltaSum::DeltaSum(const NamedTensors& global, const std::set<std::string>& buffers)
    : global_(global), rest_(rest_of(global, buffers)) {
  for (const NamedTensor& entry : global) is_parameter_.push_back(is_parameter(entry, buffers));
}

void DeltaSum::add(const ClientUpdate& update, const NamedTensors& base, double factor) {
  NamedTensors rest;
  size_t next = 0;
  for (size_t i = 0; i < global_.size(); ++i) {
    if (!is_parameter_[i]) {
      rest.push_back(update.weights[i]);
      continue;
    }
    if (next == sums_.size()) sums_.push_back(double_zeros(global_[i].tensor));
    // The difference of two floats in double is exact but for extreme pairs: rounding comes at the end.
    const at::Tensor delta =
        at::sub(update.weights[i].tensor.to(at::kDouble), base[i].tensor.to(at::kDouble));
    sums_[next++].add_(delta, factor);
  }
  rest_.add(update.client, rest, update.examples).value();
}

NamedTensors DeltaSum::state() const {
  if (rest_.clients() == 0) return {};
  NamedTensors state;
  size_t next = 0;
  for (size_t i = 0; i < global_.size(); ++i) {
    if (is_parameter_[i]) state.push_back({kChange + global_[i].name, sums_[next++].clone()});
  }
  append(state, snapshot(rest_.sums()), kRest);
  state.push_back({kCounts, at::tensor({int64_t{rest_.clients()}, static_cast<int64_t>(rest_.examples())})});
  return state;
}

Result<int> DeltaSum::load(const NamedTensors& state) {
  const at::Tensor* counts = find_tensor(state, kCounts);
  if (counts == nullptr || counts->scalar_type() != at::kLong || counts->numel() != 2) {
    return Error{ErrorCode::kCorrupt, std::string("\"") + kCounts + "\" of the updates added is missing"};
  }
  NamedTensors expected, rest;
  for (size_t i = 0; i < global_.size(); ++i) {
    if (is_parameter_[i]) {
      expected.push_back({global_[i].name, double_zeros(global_[i].tensor)});
    } else {
      rest.push_back(global_[i]);
    }
  }
  const NamedTensors changes = named_like(expected, without_prefix(state, kChange));
  if (auto checked = check_same_layout(expected, changes); !checked) return checked.error();
  if (auto checked = check_finite(changes); !checked) return checked.error();
  const auto updates = static_cast<int>(counts->flatten()[0].item<int64_t>());
  const auto examples = static_cast<uint64_t>(counts->flatten()[1].item<int64_t>());
  if (auto loaded = rest_.load(named_like(rest, without_prefix(state, kRest)), updates, examples); !loaded)
    return loaded.error();
  sums_.clear();
  for (const NamedTensor& entry : changes) sums_.push_back(entry.tensor.clone());
  return updates;
}

NamedTensors DeltaSum::moved_by(const std::vector<at::Tensor>& steps) const {
  const NamedTensors rest = rest_.mean();
  NamedTensors moved;
  size_t next_step = 0;
  size_t next_rest = 0;
  for (size_t i = 0; i < global_.size(); ++i) {
    if (!is_parameter_[i]) {
      moved.push_back(rest[next_rest++]);
      continue;
    }
    const at::Tensor& weights = global_[i].tensor;
    const at::Tensor value = at::add(weights.to(at::kDouble), steps[next_step++]);
    moved.push_back({global_[i].name, at::empty_like(weights).copy_(value)});
  }
  return moved;
}

}  // namespace tandem::aggregator
