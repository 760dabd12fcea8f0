#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "tandem/core/base/result.h"
#include "tandem/core/model/batch_norm_mode.h"
#include "tandem/core/model/named_tensors.h"

namespace tandem {

/// What is known of one block without building it.
struct BlockInfo {
  std::string name;                   ///< "conv1", "fc2", ...
  std::vector<int64_t> output_shape;  ///< of one example, without the batch dimension
};

/// Consecutive blocks [first, last) of a model with their weights: a whole model, a front or a tail.
/// float32. A copy of the handle shares the weights; `clone` does not. Not thread-safe.
class ModelPart {
 public:
  struct Impl;
  explicit ModelPart(std::shared_ptr<Impl> impl);

  int first() const;
  int last() const;

  /// The part's output for a batch. A 4-d input is brought to channels-last first: that is the format
  /// in which every part computes, so that a split model runs the same kernels as a whole one; so is a
  /// 4-d gradient given to the output's backward. Builds the graph for backward unless gradients are off.
  /// Throws std::runtime_error if the input does not fit.
  at::Tensor forward(const at::Tensor& input) const;

  /// Training mode (batch statistics in batch norm unless frozen), as after `build`, or evaluation mode.
  void set_training(bool training);
  /// From here on batch-norm layers compute in evaluation mode, whatever `set_training` says, so that no
  /// example depends on its batch and one example is enough; their parameters require no gradients and
  /// have none, so that an optimiser leaves them alone. Loading still sets them. Holds for handles and
  /// slices that share the blocks, and for clones. Group norm is untouched.
  void freeze_batch_norm();

  NamedTensors parameters() const;  ///< aliases, in model order; they require gradients unless frozen
  NamedTensors buffers() const;     ///< aliases: batch-norm statistics and counters
  /// Parameters and buffers by block, in the order PyTorch's state_dict has them; aliases.
  NamedTensors state() const;
  /// Parameters, statistics and counters of the batch-norm layers, in the order of `state()`; aliases.
  /// Empty where there are none.
  NamedTensors batch_norm_state() const;

  /// Copies `state` into the weights, in place. kShapeMismatch or kNonFinite name the tensor, and then
  /// nothing has changed.
  Result<void> load(const NamedTensors& state);

  /// Drops the gradients.
  void zero_grad();
  /// A deep copy, with the mode but without the gradients.
  ModelPart clone() const;
  /// Blocks [first, last) of this part, sharing its weights; global block numbers. Throws
  /// std::invalid_argument if the range is empty or not inside this part.
  ModelPart slice(int first, int last) const;
  /// Drops the gradients. Handles and slices that share the weights move along.
  void to(at::Device device);

 private:
  std::shared_ptr<Impl> impl_;
};

/// A model as an ordered list of blocks for one input shape and class count; knows shapes, holds no
/// weights. A cut can fall between any two blocks.
class ModelDefinition {
 public:
  struct Impl;
  explicit ModelDefinition(std::shared_ptr<const Impl> impl);

  const std::string& specification() const;
  int num_blocks() const;
  const BlockInfo& block(int index) const;
  const std::vector<int64_t>& input_shape() const;
  int64_t num_classes() const;
  /// Whether blocks [first, last) use the statistics of their batch (batch norm): needs 2 examples.
  bool uses_batch_statistics(int first, int last) const;

  /// Builds blocks [first, last) with weights drawn from `seed`; a block's weights depend on the seed
  /// and its number only, so fronts and whole models agree. May be called from several threads. Throws
  /// std::invalid_argument if the range is empty or not inside the model.
  ModelPart build(uint64_t seed, int first, int last) const;
  ModelPart build(uint64_t seed) const { return build(seed, 0, num_blocks()); }

  /// kInvalidArgument unless 1 <= cut < num_blocks; the message lists the cuts and what each is after.
  Result<void> check_cut(int cut) const;

 private:
  std::shared_ptr<const Impl> impl_;
};

/// Defines a model from its specification, `name` or `name:key=value,key=value`:
///   mlp:hidden=256-128         flatten, then a block a layer
///   lenet5                     conv5 6, pool | conv5 16, pool | 120 | 84 | classes
///   cnn                        conv3 32, pool | conv3 64, pool | fc 128 | classes
///   resnet18:norm=batch|group,width=64   small-image stem | 8 basic blocks | pool, fc
/// for examples of `input_shape` ({C,H,W} or {F}; only mlp takes {F}) and 2 or more classes. Group norm has
/// gcd(32, channels / 4) groups. Sides are at least 4 pixels, for resnet18 at least 8. kInvalidArgument names
/// the unknown model or key with the nearest known one, or says why the input is too small.
Result<ModelDefinition> define_model(const std::string& specification,
                                     const std::vector<int64_t>& input_shape, int64_t num_classes);

}  // namespace tandem
