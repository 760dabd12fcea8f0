#pragma once

#include <memory>
#include <set>
#include <string>

#include "tandem/aggregator/strategies/strategy.h"

namespace tandem::aggregator {

enum class ServerRule { kMomentum, kAdam, kYogi, kAdagrad };

/// Ranges are those make_strategy checks.
struct ServerOptimizerOptions {
  ServerRule rule = ServerRule::kAdam;
  double eta = 0.01;
  double beta1 = 0.9;   ///< kMomentum: beta
  double beta2 = 0.99;  ///< kAdam, kYogi
  double tau = 1e-3;    ///< all but kMomentum
  double v0 = 1e-6;     ///< where v starts; the paper: at least tau^2
};

/// The mean change D of the clients as a gradient for an optimiser on the aggregator. kMomentum: FedAvgM (Hsu
/// et al. 2019); the others: FedOpt (Reddi et al. 2021, Alg. 2), without bias correction. Moments in double.
std::unique_ptr<Strategy> make_server_optimizer(std::string name, std::set<std::string> buffers,
                                                const ServerOptimizerOptions& options);

}  // namespace tandem::aggregator
