#pragma once

#include <cstdint>
#include <vector>

#include "tandem/core/base/ids.h"
#include "tandem/core/base/result.h"
#include "tandem/core/model/named_tensors.h"
#include "tandem/core/training/federated_average.h"

namespace tandem {

/// Merges copies of a model's blocks where not every copy holds all of them: each tensor becomes the mean of
/// its copies, weighted by the examples whose gradient each copy applied. Copies are recognised by the names
/// of their tensors. With copies of the same blocks it is FederatedAverage, to the bit. Not thread-safe.
class BlockMerge {
 public:
  /// `layout` gives names, shapes and dtypes of the model's tensors, by block. `boundaries`: the blocks at
  /// which a copy may begin or end, in ascending order.
  BlockMerge(const NamedTensors& layout, const std::vector<int>& boundaries);

  /// Adds a copy of blocks [first, last), both boundaries or the model's ends. kShapeMismatch or kNonFinite
  /// name owner and tensor, and then nothing of the copy is added. Throws std::invalid_argument unless
  /// `examples` >= 1.
  Result<void> add(const ClientId& owner, int first, int last, const NamedTensors& copy, uint64_t examples);

  /// Returns the merged tensors of all blocks that have a copy, in storage of their own. A block with a
  /// single copy is that copy.
  NamedTensors merged() const;

 private:
  struct Range {
    int first;
    int last;
    NamedTensors layout;
    FederatedAverage average;
  };
  std::vector<Range> ranges_;
};

}  // namespace tandem
