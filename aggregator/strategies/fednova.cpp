#include "tandem/aggregator/strategies/fednova_detail.h"

#include <ATen/ATen.h>

#include <cmath>
#include <optional>
#include <utility>

#include "tandem/aggregator/strategies/strategy_base_detail.h"

namespace tandem::aggregator {
namespace {

class FedNova final : public StrategyBase {
 public:
  FedNova(std::set<std::string> buffers, double momentum)
      : StrategyBase("fednova", std::move(buffers)), momentum_(momentum) {}

 private:
  void reset() override {
    normalised_.emplace(global(), buffers());
    weighted_norms_ = 0;
  }

  Result<void> accept(ClientUpdate update) override {
    if (auto checked = check_weights(update); !checked) return checked;
    if (update.steps < 1) {
      return of_client(update.client, {ErrorCode::kInvalidArgument, "steps must be >= 1, got 0"});
    }
    const double norm = fednova_norm(update.steps, momentum_);
    const auto examples = static_cast<double>(update.examples);
    normalised_->add(update, global(), examples / norm);
    weighted_norms_ += examples * norm;
    return {};
  }

  Result<NamedTensors> finish() override {
    const auto examples = static_cast<double>(normalised_->examples());
    const double effective_steps = weighted_norms_ / examples;  // tau_eff
    std::vector<at::Tensor> steps;
    for (const at::Tensor& sum : normalised_->sums())
      steps.push_back(at::mul(sum, effective_steps / examples));
    return normalised_->moved_by(steps);
  }

  double momentum_;
  std::optional<DeltaSum> normalised_;  ///< sum_k n_k D_k / |a_k|_1
  double weighted_norms_ = 0;           ///< sum_k n_k |a_k|_1
};

}  // namespace

double fednova_norm(uint32_t steps, double momentum) {
  const double t = steps;
  const double decayed = momentum * (1 - std::pow(momentum, t)) / (1 - momentum);
  return (t - decayed) / (1 - momentum);
}

std::unique_ptr<Strategy> make_fednova(std::set<std::string> buffers, double momentum) {
  return std::make_unique<FedNova>(std::move(buffers), momentum);
}

}  // namespace tandem::aggregator
