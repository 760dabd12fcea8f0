#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "tandem/core/base/result.h"
#include "tandem/core/data/dataset.h"

namespace tandem::datasets {

/// Which half of a data set that has both.
enum class Split { kTrain, kTest };

/// Opens a data specification:
///   idx:DIR,classes=N             train-images-idx3-ubyte[.gz] and the other three files of MNIST's format;
///                                 without N there are as many classes as the largest label says
///   synthetic:NAME,examples=N,... made up on the spot, seeded (see synthetic.h)
/// kInvalidArgument names an unknown scheme or parameter with the nearest known one; kNotFound, kCorrupt
/// and kIo name the file, what was expected and what was found.
Result<std::shared_ptr<const Dataset>> open_dataset(const std::string& specification, Split split);

/// Returns what the training part of such data is. Errors as open_dataset.
Result<DataDescription> describe_dataset(const std::string& specification);

/// This device's part of a shared data set.
struct ShardOptions {
  /// "I/N" with 0 <= I < N; empty for everything.
  std::string shard = "";
  /// "iid" or "dirichlet:ALPHA".
  std::string partition = "iid";
  uint64_t seed = 1;
};

/// kInvalidArgument names the flag and the rule, also when the shard would be empty.
Result<std::shared_ptr<const Dataset>> take_shard(std::shared_ptr<const Dataset> dataset,
                                                  const ShardOptions& options);

/// A device's examples, and those it holds back to evaluate on.
struct HeldOutSplit {
  std::shared_ptr<const Dataset> train;
  std::shared_ptr<const Dataset> held_out;  ///< null for a fraction of 0
};

/// Holds back a random `fraction` of a device's part, in [0, 1): at least one example, and one is left to
/// train on. The choice depends on the shard options, so that every run holds back the same.
/// kInvalidArgument names the flag and the rule.
Result<HeldOutSplit> hold_out(std::shared_ptr<const Dataset> part, double fraction,
                              const ShardOptions& options);

}  // namespace tandem::datasets
