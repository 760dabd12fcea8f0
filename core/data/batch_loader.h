#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "tandem/core/data/augmenter.h"
#include "tandem/core/data/dataset.h"

namespace tandem {

struct BatchLoaderOptions {
  uint64_t run_seed = 1;
  /// hash_name of the client: its stream of epochs and augmentations.
  uint64_t client_hash = 0;
  /// Batches prepared ahead by a thread of their own; 0 prepares each in the caller's thread.
  int prefetch = 2;
};

/// Prepares a client's batches in order. The client's examples form an endless sequence of epochs, each
/// a new seeded permutation of the data, so a position in it says which example comes, whatever happened
/// before: a client that joins late or comes back draws the same examples. An example is augmented by
/// (run, client, epoch, example).
/// `start`, `next` and destruction belong to one thread; the preparing thread is internal.
class BatchLoader {
 public:
  /// `dataset` and `augmenter` must outlive the loader.
  BatchLoader(const Dataset& dataset, const Augmenter& augmenter, BatchLoaderOptions options);
  ~BatchLoader();

  /// From now on `next` yields batches of these sizes (0 yields an empty batch at once), beginning with
  /// example `first_example` of the sequence. Whatever was prepared before is dropped.
  void start(uint64_t first_example, std::vector<uint32_t> batch_sizes);

  /// The next batch, ready for the model: inputs float32. Waits for it. Throws std::logic_error past the
  /// last; rethrows what the data set or the augmenter threw.
  Batch next();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tandem
