#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tandem/core/base/result.h"
#include "tandem/core/model/model.h"

namespace tandem {

/// The auxiliary head of local-loss split learning (CSE-FSL, arXiv 2507.15816): classifies the activations
/// at the cut, so that the front can train on a loss of its own.
///
/// `specification` is one of
///   linear                flatten, one linear layer
///   mlp:hidden=128        flatten, linear, ReLU, linear
///   conv:channels=16      1x1 convolution, ReLU, flatten, linear; only for activations {C,H,W}
/// `activation_shape` is that of one example, {C,H,W} or {F}; 2 or more classes. Weights are drawn from
/// `seed` as ModelDefinition::build draws them, under a block number that no model has. The tensors are named
/// "auxiliary.<path>", for example "auxiliary.1.weight"; there are no buffers. kInvalidArgument names the
/// unknown head or key with the nearest known one, or the value that does not fit.
Result<ModelPart> build_auxiliary_head(const std::string& specification,
                                       const std::vector<int64_t>& activation_shape, int64_t num_classes,
                                       uint64_t seed);

}  // namespace tandem
