// Shared by the .cpp files of this folder; not installed.
#pragma once

#include <ATen/core/grad_mode.h>
#include <torch/torch.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "tandem/core/model/model.h"

namespace tandem {

namespace detail {

/// One block: what is known of it, and how to build it. `make` may be called from several threads; the
/// weights it leaves are overwritten by ModelDefinition::build.
struct BlockDefinition {
  BlockInfo info;
  bool batch_statistics = false;
  std::function<torch::nn::Sequential()> make;
};

/// A part of this one block, whose tensors are named "<definition.info.name>.<path>" instead of by a block
/// number; `number` only selects the stream of random numbers, as a block's number does.
ModelPart build_named_part(const BlockDefinition& definition, uint64_t seed, int number);

}  // namespace detail

struct ModelDefinition::Impl {
  std::string specification;
  std::vector<int64_t> input_shape;
  int64_t num_classes = 0;
  std::vector<detail::BlockDefinition> blocks;
};

}  // namespace tandem
