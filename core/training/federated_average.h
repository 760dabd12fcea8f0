#pragma once

#include <cstdint>
#include <vector>

#include "tandem/core/base/ids.h"
#include "tandem/core/base/result.h"
#include "tandem/core/model/named_tensors.h"

namespace tandem {

/// Returns the error with the client's name in front.
Error of_client(const ClientId& client, const Error& error);

/// FedAvg (McMahan et al. 2017, Alg. 1): w = sum_k n_k w_k / sum_k n_k, for parameters and buffers.
/// Sums n_k * w_k in double, in the order of `add`, divides once and casts, so the result is the correctly
/// weighted mean to one rounding; the caller adds in client-id order, which makes it independent of
/// arrival. Integer tensors (batch-norm counters) take the maximum. Memory: one model in double, however
/// many clients. Not thread-safe.
class FederatedAverage {
 public:
  /// `layout` gives names, shapes and dtypes that every update must have.
  explicit FederatedAverage(NamedTensors layout);

  /// kShapeMismatch or kNonFinite name client and tensor, and the update is left out. Throws
  /// std::invalid_argument unless `examples` >= 1.
  Result<void> add(const ClientId& client, const NamedTensors& update, uint64_t examples);

  /// What was added so far, aliases for a checkpoint: one tensor for each of the layout; empty before `add`.
  NamedTensors sums() const;
  /// Takes what `sums` gave after so many clients and examples, copied. kShapeMismatch, kNonFinite or
  /// kInvalidArgument name what does not fit, and nothing is changed.
  Result<void> load(const NamedTensors& sums, int clients, uint64_t examples);

  int clients() const { return clients_; }
  uint64_t examples() const { return examples_; }

  /// The mean in the dtypes and memory formats of the layout, in storage of its own. Throws
  /// std::logic_error before the first `add`.
  NamedTensors mean() const;

 private:
  NamedTensors layout_;           ///< its values are not read
  std::vector<at::Tensor> sums_;  ///< double; integer tensors hold the maximum so far; empty before `add`
  int clients_ = 0;
  uint64_t examples_ = 0;
};

}  // namespace tandem
