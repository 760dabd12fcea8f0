#include <optional>
#include <utility>

#include "tandem/aggregator/strategies/fedavg_detail.h"
#include "tandem/aggregator/strategies/strategy_base_detail.h"

namespace tandem::aggregator {
namespace {

class FedAvg final : public StrategyBase {
 public:
  explicit FedAvg(std::string name) : StrategyBase(std::move(name), {}) {}

 private:
  void reset() override { average_.emplace(global()); }

  Result<void> accept(ClientUpdate update) override {
    return average_->add(update.client, update.weights, update.examples);
  }

  Result<NamedTensors> finish() override { return average_->mean(); }

  std::optional<FederatedAverage> average_;
};

}  // namespace

std::unique_ptr<Strategy> make_fedavg(std::string name) {
  return std::make_unique<FedAvg>(std::move(name));
}

}  // namespace tandem::aggregator
