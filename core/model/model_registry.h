#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <torch/nn/modules/container/sequential.h>

#include "tandem/core/base/result.h"
#include "tandem/core/base/specification.h"
#include "tandem/core/model/model.h"

namespace tandem {

/// One block of a model: what is known of it, and how to build it.
struct BlockDefinition {
  BlockInfo info;
  /// Whether it uses the statistics of its batch, as batch norm does: a batch then needs 2 examples.
  bool batch_statistics = false;
  /// Builds the block for float32 inputs of the shape that the block before it puts out. May be called from
  /// several threads at once. ModelDefinition::build draws the weights of convolutions and linear layers
  /// anew from the run's seed; those of norms stay as they are built.
  std::function<torch::nn::Sequential()> make;
};

/// A kind of model that a specification can name, such as "mlp:hidden=256-128".
struct ModelFamily {
  std::string name;
  /// The keys that its specification may have.
  std::vector<std::string> parameters;
  /// Returns the blocks for examples of `input_shape` ({C,H,W} or {F}) in `num_classes` classes; the last
  /// block puts out {num_classes}. kInvalidArgument says what of the specification or the shape does not fit.
  /// May be called from several threads at once.
  std::function<Result<std::vector<BlockDefinition>>(
      const Specification& specification, const std::vector<int64_t>& input_shape, int64_t num_classes)>
      make;
};

/// Makes a model of this family known to define_model, in this program. The aggregator and every device must
/// know it alike: only its specification travels. Call it before the program's first define_model. The
/// models of the zoo are known without it. kInvalidArgument when the name is known already, is empty, or
/// holds a sign of the grammar (: , = %). Thread-safe.
Result<void> register_model(ModelFamily family);

/// Returns the names that define_model knows: those of the zoo, then those that were registered. Thread-safe.
std::vector<std::string> model_names();

}  // namespace tandem
