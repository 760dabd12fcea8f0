#include "tandem/aggregator/strategies/server_optimizer_detail.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <optional>
#include <utility>

#include "tandem/aggregator/strategies/strategy_base_detail.h"

namespace tandem::aggregator {
namespace {

constexpr size_t kFirstMoment = 0;
constexpr size_t kSecondMoment = 1;

std::vector<std::string> state_kinds(ServerRule rule) {
  if (rule == ServerRule::kMomentum) return {"m"};
  return {"m", "v"};
}

class ServerOptimizer final : public StrategyBase {
 public:
  ServerOptimizer(std::string name, std::set<std::string> buffers, const ServerOptimizerOptions& options)
      : StrategyBase(std::move(name), std::move(buffers), state_kinds(options.rule)), options_(options) {}

  Result<void> load_state(const NamedTensors& state) override {
    const at::NoGradGuard no_grad;
    for (const NamedTensor& entry : state) {
      if (entry.name.rfind("v.", 0) != 0 || !entry.tensor.defined()) continue;
      if (!at::lt(entry.tensor, 0).any().item<bool>()) continue;
      return Error{ErrorCode::kInvalidArgument,
                   "state of " + name() + ": " + entry.name + " holds a negative second moment"};
    }
    return StrategyBase::load_state(state);
  }

 private:
  void reset() override { change_.emplace(global(), buffers()); }

  Result<void> accept(ClientUpdate update) override {
    if (auto checked = check_weights(update); !checked) return checked;
    change_->add(update, global(), static_cast<double>(update.examples));
    return {};
  }

  Result<NamedTensors> finish() override {
    const NamedTensors parameters = parameters_of(global(), buffers());
    std::vector<NamedTensors> next(options_.rule == ServerRule::kMomentum ? 1 : 2);
    std::vector<at::Tensor> steps;
    for (size_t i = 0; i < parameters.size(); ++i) {
      const at::Tensor change = at::div(change_->sums()[i], static_cast<double>(change_->examples()));
      const at::Tensor momentum = first_moment(i, change);
      next[kFirstMoment].push_back({parameters[i].name, momentum});
      if (options_.rule == ServerRule::kMomentum) {
        steps.push_back(at::mul(momentum, -options_.eta));
        continue;
      }
      const at::Tensor spread = second_moment(i, change);
      next[kSecondMoment].push_back({parameters[i].name, spread});
      steps.push_back(at::div(at::mul(momentum, options_.eta), at::sqrt(spread).add_(options_.tau)));
    }
    state_.set(std::move(next));
    return change_->moved_by(steps);
  }

  at::Tensor moment(size_t kind, size_t parameter, const at::Tensor& like, double initial) const {
    return state_.empty() ? at::full_like(like, initial) : state_.of(kind)[parameter].tensor;
  }

  at::Tensor first_moment(size_t parameter, const at::Tensor& change) const {
    const at::Tensor kept = at::mul(moment(kFirstMoment, parameter, change, 0), options_.beta1);
    // Hsu et al. 2019 write the change as a gradient: m = beta m - D, w -= eta m.
    if (options_.rule == ServerRule::kMomentum) return at::sub(kept, change);
    return at::add(kept, change, 1 - options_.beta1);
  }

  /// Reddi et al. 2021, Alg. 2.
  at::Tensor second_moment(size_t parameter, const at::Tensor& change) const {
    const at::Tensor v = moment(kSecondMoment, parameter, change, options_.v0);
    const at::Tensor square = at::square(change);
    switch (options_.rule) {
      case ServerRule::kAdagrad:
        return at::add(v, square);
      case ServerRule::kYogi:
        return at::sub(v, at::mul(square, at::sign(at::sub(v, square))), 1 - options_.beta2);
      default:
        return at::add(at::mul(v, options_.beta2), square, 1 - options_.beta2);
    }
  }

  ServerOptimizerOptions options_;
  std::optional<DeltaSum> change_;
};

}  // namespace

std::unique_ptr<Strategy> make_server_optimizer(std::string name, std::set<std::string> buffers,
                                                const ServerOptimizerOptions& options) {
  return std::make_unique<ServerOptimizer>(std::move(name), std::move(buffers), options);
}

}  // namespace tandem::aggregator
