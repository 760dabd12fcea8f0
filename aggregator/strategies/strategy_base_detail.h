#pragma once

#include <set>
#include <string>
#include <vector>

#include "tandem/aggregator/strategies/strategy.h"
#include "tandem/core/training/federated_average.h"

namespace tandem::aggregator {

/// Floating-point and not named in `buffers`.
bool is_parameter(const NamedTensor& entry, const std::set<std::string>& buffers);

/// Those of `tensors` for which is_parameter; they alias.
NamedTensors parameters_of(const NamedTensors& tensors, const std::set<std::string>& buffers);

/// A strategy's memory between merges: for each kind ("m", "v", "c") one tensor per parameter, under the
/// parameter's name.
class ServerState {
 public:
  /// `kinds` may be empty: no memory.
  ServerState(std::string owner, std::vector<std::string> kinds, at::ScalarType dtype);

  bool empty() const { return tensors_.empty(); }
  /// Requires !empty(). `kind` counts in the order given.
  const NamedTensors& of(size_t kind) const { return tensors_.at(kind); }

  /// One entry per kind, replaced as a whole. The tensors are kept, not copied.
  void set(std::vector<NamedTensors> tensors);

  /// kShapeMismatch unless empty or one tensor per parameter.
  Result<void> check_fits(const NamedTensors& parameters) const;

  Result<void> check_all_finite() const;

  NamedTensors save() const;
  Result<void> load(const NamedTensors& state);

 private:
  Result<size_t> kind_of(const NamedTensor& entry) const;

  std::string owner_;
  std::vector<std::string> kinds_;
  at::ScalarType dtype_;
  std::vector<NamedTensors> tensors_;  ///< by kind; empty before the first merge
};

/// The frame that all strategies share: the order of calls, the checks, too few updates, saved state.
class StrategyBase : public Strategy {
 public:
  const std::string& name() const final { return name_; }
  void begin(const NamedTensors& global) final;
  Result<void> add(ClientUpdate update) final;
  int updates() const final { return updates_; }
  int minimum_updates() const override { return 1; }
  Result<NamedTensors> merge() final;
  NamedTensors state() const final { return state_.save(); }
  Result<void> load_state(const NamedTensors& state) override { return state_.load(state); }

 protected:
  StrategyBase(std::string name, std::set<std::string> buffers, std::vector<std::string> state_kinds = {},
               at::ScalarType state_dtype = at::kDouble);

  /// Drops what updates left behind; a merge into global() begins, or has ended and global() is empty.
  virtual void reset() = 0;
  /// An update with examples; what it refuses leaves no trace.
  virtual Result<void> accept(ClientUpdate update) = 0;
  /// At least minimum_updates() were accepted. An error leaves the state alone.
  virtual Result<NamedTensors> finish() = 0;
  /// Why minimum_updates() is what it is, for the error; may be empty.
  virtual std::string minimum_reason() const { return {}; }

  const NamedTensors& global() const { return global_; }
  const std::set<std::string>& buffers() const { return buffers_; }
  /// After a merge under way was loaded.
  void set_updates(int updates) { updates_ = updates; }
  /// Layout as global() and finite, else an error that names client and tensor.
  Result<void> check_weights(const ClientUpdate& update) const;

  ServerState state_;

 private:
  Result<NamedTensors> finish_checked();

  std::string name_;
  std::set<std::string> buffers_;
  NamedTensors global_;
  bool merging_ = false;
  int updates_ = 0;
};

/// sum_k a_k (w_k - base_k) over the parameters, in double, and the mean of everything else by examples.
/// What is added must have been checked. Memory: one model in double.
class DeltaSum {
 public:
  /// `global` must outlive this and not change.
  DeltaSum(const NamedTensors& global, const std::set<std::string>& buffers);

  void add(const ClientUpdate& update, const NamedTensors& base, double factor);

  /// One double tensor per parameter, in model order. Requires one `add`.
  const std::vector<at::Tensor>& sums() const { return sums_; }
  uint64_t examples() const { return rest_.examples(); }

  /// What was added, copied: "change.<name>" in double, the sums of the rest as "rest.<name>", "counts" of
  /// updates and examples. Empty before `add`.
  NamedTensors state() const;
  /// Takes what `state` gave, and returns the number of updates.
  Result<int> load(const NamedTensors& state);

  /// Parameters w + steps[i], in model order; the rest averaged. Storage of its own, formats of `global`.
  NamedTensors moved_by(const std::vector<at::Tensor>& steps) const;

 private:
  const NamedTensors& global_;
  std::vector<bool> is_parameter_;
  std::vector<at::Tensor> sums_;
  FederatedAverage rest_;  ///< buffers and integer tensors
};

}  // namespace tandem::aggregator
