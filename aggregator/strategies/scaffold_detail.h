#pragma once

#include <memory>
#include <set>
#include <string>

#include "tandem/aggregator/strategies/strategy.h"

namespace tandem::aggregator {

/// SCAFFOLD (Karimireddy et al. 2020, Alg. 1), the server's side, S the clients of the merge:
///   w += eta / |S| sum_k D_k,   c += 1 / N sum_k (c_k' - c_k).
/// As in the paper examples do not weigh, except in the mean of buffers. Its experiments have eta 1.
std::unique_ptr<Strategy> make_scaffold(std::set<std::string> buffers, double eta);

}  // namespace tandem::aggregator
