#pragma once

#include <memory>
#include <string>

#include "tandem/aggregator/strategies/strategy.h"

namespace tandem::aggregator {

/// FedAvg (McMahan et al. 2017, Alg. 1), under the name "fedavg" or "fedprox": FedProx (Li et al. 2020)
/// merges alike, its proximal term is in the clients' loss. Buffers are averaged like parameters.
std::unique_ptr<Strategy> make_fedavg(std::string name);

}  // namespace tandem::aggregator
