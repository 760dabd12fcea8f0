// Shared by model.cpp and model_zoo.cpp; not installed.
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

}  // namespace detail

struct ModelDefinition::Impl {
  std::string specification;
  std::vector<int64_t> input_shape;
  int64_t num_classes = 0;
  std::vector<detail::BlockDefinition> blocks;
};

}  // namespace tandem
