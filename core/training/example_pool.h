#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "tandem/core/base/ids.h"

namespace tandem {

/// Draws who brings how many examples to each joined batch: (B_1..B_K) from the pooled remaining counts
/// without replacement, a multivariate hypergeometric draw, so that a joined batch is distributed as one
/// drawn from the union of the data (GPSL, arXiv 2407.15738). The aggregator alone draws. What it draws
/// depends only on the run's seed and the sequence of refills and draws. Not thread-safe.
class ExamplePool {
 public:
  /// `minimum_batch` is 2 where batch statistics are used: a client then never brings exactly one example
  /// and is never left with exactly one. Throws std::invalid_argument unless 1 <= minimum_batch <= 1024.
  ExamplePool(uint64_t run_seed, uint32_t minimum_batch);

  /// Fills the pool with each client's number of examples for a new epoch; what was left is dropped. A
  /// client with fewer than `minimum_batch` takes no part. Throws std::invalid_argument on a negative
  /// count.
  void refill(const std::map<ClientId, int64_t>& examples);

  /// Examples left in this epoch; it has ended at 0.
  int64_t remaining() const;

  /// One joined batch of `batch_size` examples, fewer at the end of the epoch, none after it. Entries are
  /// > 0. With a minimum above 1 the last pick may overshoot `batch_size` by up to 2 (minimum_batch - 1).
  /// Throws std::invalid_argument if `batch_size` is 0.
  std::map<ClientId, uint32_t> draw(uint32_t batch_size);

  /// What a checkpoint keeps: a pool restored from it draws on as this one would.
  struct State {
    uint64_t draws = 0;
    std::map<ClientId, int64_t> remaining;
  };
  const State& state() const { return state_; }
  /// Throws std::invalid_argument if a count is neither 0 nor at least `minimum_batch`.
  void restore(State state);

 private:
  uint64_t run_seed_;
  int64_t minimum_batch_;
  State state_;
};

}  // namespace tandem
