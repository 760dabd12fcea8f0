#pragma once

#include <vector>

#include "tandem/core/base/ids.h"
#include "tandem/core/base/result.h"
#include "tandem/core/model/model.h"
#include "tandem/core/partition/client_cuts.h"
#include "tandem/core/partition/model_partition.h"

namespace tandem {

/// Holds the partition of every client of a run. Immutable.
class ClientPartitions {
 public:
  /// Gives every client the same partition.
  explicit ClientPartitions(ModelPartition everybody);
  /// Cuts each client's model as `cuts` says. kInvalidArgument as ModelPartition::cut_at.
  static Result<ClientPartitions> cut_at(const ModelDefinition& definition, const ClientCuts& cuts,
                                         int head_blocks);

  const ModelPartition& of(const ClientId& client) const;
  /// Returns each partition that some client has, in ascending order of the cut.
  const std::vector<ModelPartition>& distinct() const { return distinct_; }
  /// Whether every client has the same partition.
  bool equal() const { return distinct_.size() == 1; }
  /// Returns the partition with the longest front, which holds every block that is on some client.
  const ModelPartition& longest_front() const { return distinct_.back(); }
  /// Returns the blocks at which some client's activations enter the aggregator's part, in ascending order;
  /// empty where every block is on the clients.
  std::vector<int> entries() const;
  const ClientCuts& cuts() const { return cuts_; }

 private:
  ClientPartitions(ClientCuts cuts, std::vector<ModelPartition> distinct);

  ClientCuts cuts_;
  std::vector<ModelPartition> distinct_;
};

}  // namespace tandem
