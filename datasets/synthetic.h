#pragma once

#include <cstdint>
#include <memory>

#include "tandem/core/base/result.h"
#include "tandem/core/base/specification.h"
#include "tandem/datasets/data_source.h"
#include "tandem/datasets/tensor_dataset.h"

namespace tandem::datasets {

/// Made-up images: each class is a fixed arrangement of smooth blobs; an example is its class's picture
/// moved, dimmed and covered with noise and stray blobs. A small CNN learns it in a few epochs, a linear
/// model does clearly less well.
struct SyntheticImages {
  int64_t examples = 6000;       ///< of the training split; 1..10,000,000
  int64_t test_examples = 1000;  ///< of the test split; 1..10,000,000
  int64_t classes = 10;          ///< 2..1000
  int64_t size = 28;             ///< height and width in pixels; 8..256
  int64_t channels = 1;          ///< 1..16
  int64_t seed = 1;              ///< >= 0
};

/// Made-up points: each class is a round cluster of (nearly) normal points in `features` dimensions.
struct SyntheticBlobs {
  int64_t examples = 6000;       ///< of the training split; 1..10,000,000
  int64_t test_examples = 1000;  ///< of the test split; 1..10,000,000
  int64_t classes = 10;          ///< 2..1000
  int64_t features = 16;         ///< 1..100,000
  int64_t seed = 1;              ///< >= 0
};

/// uint8 [N, channels, size, size]; example i is of class i mod classes. Both splits share the classes'
/// pictures and nothing else. Computed in integers: the same bytes on every machine. Fields must be in
/// range (open_synthetic checks them).
std::shared_ptr<const TensorDataset> make_synthetic(const SyntheticImages& options, Split split);

/// float32 [N, features], likewise.
std::shared_ptr<const TensorDataset> make_synthetic(const SyntheticBlobs& options, Split split);

/// synthetic:images,examples=6000,test-examples=1000,classes=10,size=28,channels=1,seed=1
/// synthetic:blobs,examples=6000,test-examples=1000,classes=10,features=16,seed=1
/// kInvalidArgument names the unknown name or parameter, or the value and its range; kTooLarge a data set
/// of more than 4 GiB.
Result<std::shared_ptr<const TensorDataset>> open_synthetic(const Specification& specification, Split split);

}  // namespace tandem::datasets
