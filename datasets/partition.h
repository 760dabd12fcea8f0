#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "tandem/core/base/result.h"

namespace tandem::datasets {

/// How a shared data set is split among N devices.
struct Partition {
  enum class Kind { kIid, kDirichlet };
  Kind kind = Kind::kIid;
  /// Concentration of kDirichlet; > 0, the smaller the more the shards differ in their classes.
  double alpha = 0.0;
};

/// "iid" or "dirichlet:ALPHA"; kInvalidArgument names --partition, the text and what is known.
Result<Partition> parse_partition(const std::string& text);

/// Splits examples 0..labels.size()-1 into `num_shards` parts: disjoint, covering, none empty, each in
/// ascending order. A pure function of its arguments, so every device computes all parts on its own and
/// takes its one.
///   iid              a seeded permutation cut into parts whose sizes differ by at most 1
///   dirichlet:ALPHA  each class divided in proportions drawn from Dir(ALPHA) (Hsu, Qi, Brown 2019);
///                    drawn anew, up to 100 times, while a part is empty
/// kInvalidArgument when there are more shards than examples or no draw left every part an example.
Result<std::vector<std::vector<int64_t>>> partition_indices(std::span<const int64_t> labels,
                                                            const Partition& partition, int64_t num_shards,
                                                            uint64_t seed);

}  // namespace tandem::datasets
