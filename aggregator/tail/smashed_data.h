#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <vector>

#include <ATen/core/Tensor.h>
#include <nlohmann/json_fwd.hpp>

#include "tandem/aggregator/tail/smashed_batch.h"
#include "tandem/core/base/ids.h"
#include "tandem/core/base/result.h"
#include "tandem/core/model/named_tensors.h"

namespace tandem::aggregator {

/// The aligned objective: what is kept of the smashed data of a round, for what the aggregator does with it
/// after the steps. Every client has an equal share of the room for its newest batches, so what is kept does
/// not depend on the order in which clients' batches arrive; its newest batch is kept whatever its size. Not
/// thread-safe.
class SmashedData {
 public:
  /// Room for `max_bytes` of all clients together.
  SmashedData(int64_t max_bytes, size_t clients);

  /// Keeps a copy of a client's batch, and forgets older ones that its share has no room for. Activations
  /// float32 [n, ...] and labels int64 [n], CPU.
  void keep(const ClientId& client, const at::Tensor& activations, const at::Tensor& labels);

  bool empty() const { return kept_.empty(); }
  /// What is kept of these clients, in the order given, each client's oldest first; aliases.
  std::vector<SmashedBatch> batches(const std::vector<ClientId>& clients) const;

  /// What a checkpoint keeps: how many batches there are of each client, and in `tensors` the batches,
  /// aliases.
  nlohmann::json state(NamedTensors& tensors) const;
  /// The reverse. kCorrupt names a client of whom a batch is missing; throws nlohmann's exceptions on a
  /// `state` that is none.
  Result<void> load_state(const nlohmann::json& state, const NamedTensors& tensors);

 private:
  struct Kept {
    std::deque<SmashedBatch> batches;
    int64_t bytes = 0;
  };

  int64_t share_;  // bytes
  std::map<ClientId, Kept> kept_;
};

}  // namespace tandem::aggregator
