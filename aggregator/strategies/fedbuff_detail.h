#pragma once

#include <memory>
#include <set>
#include <string>

#include "tandem/aggregator/strategies/strategy.h"

namespace tandem::aggregator {

/// FedBuff (Nguyen et al. 2022, Alg. 1): w += eta / K sum_k s_k D_k with D_k = w_k - base_k and s_k =
/// (1 + staleness)^-0.5, over the K updates added; the caller merges when the buffer is full. As in the paper
/// examples do not weigh, except in the mean of buffers (batch-norm statistics), and s_k is not normalised:
/// stale updates make a smaller step. A client may occur more than once.
std::unique_ptr<Strategy> make_fedbuff(std::set<std::string> buffers, double eta);

}  // namespace tandem::aggregator
