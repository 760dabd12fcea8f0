// Shared by the .cpp files of this folder; not installed.
#pragma once

#include <ATen/core/grad_mode.h>
#include <torch/torch.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "tandem/core/model/model.h"
#include "tandem/core/model/model_registry.h"

namespace tandem {

namespace detail {

/// The models that come with Tandem.
std::vector<ModelFamily> zoo();

/// A part of this one block, whose tensors are named "<definition.info.name>.<path>" instead of by a block
/// number; `number` only selects the stream of random numbers, as a block's number does.
ModelPart build_named_part(const BlockDefinition& definition, uint64_t seed, int number);

}  // namespace detail

struct ModelDefinition::Impl {
  std::string specification;
  std::vector<int64_t> input_shape;
  int64_t num_classes = 0;
  std::vector<BlockDefinition> blocks;
};

}  // namespace tandem
