#pragma once

#include <memory>
#include <set>
#include <string>

#include "tandem/aggregator/strategies/strategy.h"

namespace tandem::aggregator {

/// |a_k|_1 of Wang et al. 2020: how far `steps` of SGD with `momentum` go under a constant gradient, in plain
/// steps. The formula takes the momentum buffer as zero at the start of the round.
double fednova_norm(uint32_t steps, double momentum);

/// FedNova: w += tau_eff sum_k p_k D_k / |a_k|_1 with tau_eff = sum_k p_k |a_k|_1, so that a client that took
/// more steps does not pull harder. `momentum` in [0, 1).
std::unique_ptr<Strategy> make_fednova(std::set<std::string> buffers, double momentum);

}  // namespace tandem::aggregator
