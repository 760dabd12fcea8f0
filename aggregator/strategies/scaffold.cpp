#include "tandem/aggregator/strategies/scaffold_detail.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "tandem/aggregator/strategies/strategy_base_detail.h"

namespace tandem::aggregator {
namespace {

NamedTensors zero_control(const NamedTensors& parameters) {
  NamedTensors zeros;
  for (const NamedTensor& entry : parameters) {
    zeros.push_back({entry.name, at::zeros_like(entry.tensor, entry.tensor.options().dtype(at::kFloat))});
  }
  return zeros;
}

class Scaffold final : public StrategyBase {
 public:
  Scaffold(std::set<std::string> buffers, double eta)
      : StrategyBase("scaffold", std::move(buffers), {"c"}, at::kFloat), eta_(eta) {}

  void set_population(int clients) override {
    Strategy::set_population(clients);
    population_ = clients;
  }

  NamedTensors control() const override { return state_.empty() ? NamedTensors{} : snapshot(state_.of(0)); }

 private:
  void reset() override {
    change_.emplace(global(), buffers());
    control_layout_ = zero_control(parameters_of(global(), buffers()));
    control_sums_.clear();
  }

  Result<void> accept(ClientUpdate update) override {
    if (auto checked = check_weights(update); !checked) return checked;
    if (auto checked = check_control(update); !checked) return checked;
    change_->add(update, global(), 1.0);
    for (size_t i = 0; i < update.control_change.size(); ++i) {
      const at::Tensor change = update.control_change[i].tensor.to(at::kDouble, false, true);
      if (control_sums_.size() == i) {
        control_sums_.push_back(change);
      } else {
        control_sums_[i].add_(change);
      }
    }
    return {};
  }

  Result<void> check_control(const ClientUpdate& update) const {
    if (update.control_change.empty()) return {};
    auto checked = check_same_layout(control_layout_, update.control_change);
    if (checked) checked = check_finite(update.control_change);
    if (checked) return {};
    return of_client(update.client, {checked.error().code, "control change: " + checked.error().message});
  }

  Result<NamedTensors> finish() override {
    std::vector<at::Tensor> steps;
    for (const at::Tensor& sum : change_->sums()) steps.push_back(at::mul(sum, eta_ / updates()));
    const NamedTensors before = state_.empty() ? control_layout_ : state_.of(0);
    NamedTensors control;
    for (size_t i = 0; i < before.size(); ++i) {
      at::Tensor value = before[i].tensor.to(at::kDouble);
      if (!control_sums_.empty()) {
        // |S|/N of the mean over S is 1/N of the sum.
        value = at::add(value, control_sums_[i], 1.0 / std::max(population_, updates()));
      }
      control.push_back({before[i].name, at::empty_like(before[i].tensor).copy_(value)});
    }
    state_.set({std::move(control)});
    return change_->moved_by(steps);
  }

  double eta_;
  int population_ = 1;
  std::optional<DeltaSum> change_;
  NamedTensors control_layout_;           ///< float32 zeros
  std::vector<at::Tensor> control_sums_;  ///< double; empty until a client's control changed
};

}  // namespace

std::unique_ptr<Strategy> make_scaffold(std::set<std::string> buffers, double eta) {
  return std::make_unique<Scaffold>(std::move(buffers), eta);
}

}  // namespace tandem::aggregator
