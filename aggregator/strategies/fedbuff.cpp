#include "tandem/aggregator/strategies/fedbuff_detail.h"

#include <ATen/ATen.h>

#include <cmath>
#include <optional>
#include <utility>

#include "tandem/aggregator/strategies/strategy_base_detail.h"

namespace tandem::aggregator {
namespace {

class FedBuff final : public StrategyBase {
 public:
  FedBuff(std::set<std::string> buffers, double eta)
      : StrategyBase("fedbuff", std::move(buffers)), eta_(eta) {}

  NamedTensors added() const override { return updates() > 0 ? change_->state() : NamedTensors{}; }

  Result<void> load_added(const NamedTensors& added) override {
    if (added.empty()) return {};
    const auto updates = change_->load(added);
    if (!updates)
      return Error{updates.error().code, "updates added to " + name() + ": " + updates.error().message};
    set_updates(*updates);
    return {};
  }

 private:
  void reset() override { change_.emplace(global(), buffers()); }

  Result<void> accept(ClientUpdate update) override {
    if (auto checked = check_weights(update); !checked) return checked;
    const NamedTensors& base = update.base.empty() ? global() : update.base;
    if (auto checked = check_same_layout(global(), base); !checked) {
      return of_client(update.client, {checked.error().code, "base: " + checked.error().message});
    }
    if (auto checked = check_finite(update.base); !checked) {
      return of_client(update.client, {checked.error().code, "base: " + checked.error().message});
    }
    change_->add(update, base, 1 / std::sqrt(1.0 + update.staleness));
    return {};
  }

  Result<NamedTensors> finish() override {
    std::vector<at::Tensor> steps;
    for (const at::Tensor& sum : change_->sums()) steps.push_back(at::mul(sum, eta_ / updates()));
    return change_->moved_by(steps);
  }

  double eta_;
  std::optional<DeltaSum> change_;
};

}  // namespace

std::unique_ptr<Strategy> make_fedbuff(std::set<std::string> buffers, double eta) {
  return std::make_unique<FedBuff>(std::move(buffers), eta);
}

}  // namespace tandem::aggregator
