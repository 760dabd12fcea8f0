#pragma once

#include <cstdint>
#include <vector>

#include "tandem/aggregator/tail/smashed_batch.h"
#include "tandem/aggregator/tail/tail_trainer.h"

namespace tandem::aggregator {

struct ReplayOptions {
  /// Passes over the smashed data; >= 1.
  int epochs = 1;
  /// Examples a step; >= 1.
  int64_t batch_size = 64;
  /// Examples that a step needs at least, as batch statistics need two; >= 1. A shorter rest joins the batch
  /// before it, and fewer in all are left alone.
  int64_t minimum_batch = 1;
  /// Of the order of the examples.
  uint64_t seed = 1;
};

/// Trains a tail once more on what it was sent in a round, all examples mixed: no byte crosses the network
/// for it. In the round the tail saw each example once, client by client; where little goes up (CSE-FSL's
/// every h-th batch) it is behind the fronts, and where clients hold few classes it leans towards whoever
/// came last. These are steps as any other: the optimiser and its schedule count them.
///
/// Returns the mean loss per example of the last pass; NaN if no step was usable. The same arguments give the
/// same bits. Throws std::invalid_argument naming the option out of range, or without smashed data.
double replay(TailTrainer& tail, const std::vector<SmashedBatch>& smashed, const ReplayOptions& options);

}  // namespace tandem::aggregator
