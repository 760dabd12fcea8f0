#pragma once

#include <map>
#include <memory>
#include <vector>

#include "tandem/aggregator/tail/tail_trainer.h"
#include "tandem/core/base/ids.h"
#include "tandem/core/partition/client_partitions.h"
#include "tandem/core/training/training_plan.h"

namespace tandem::aggregator {

/// The tails that a run trains: the merged one, shared by all clients, or for splitfed-v1 a replica for each
/// client, which starts every round from the merged one and keeps its optimiser's state across rounds. A
/// client that takes no part in a round has no replica in it, only what is its own. Where clients have
/// different cuts, a replica begins at its client's cut, and the merged tail at the lowest. Not thread-safe.
class Tails {
 public:
  /// `tail` shares its weights with the merged model and begins at the lowest cut.
  Tails(ModelPart tail, ClientPartitions partitions, TailTrainerOptions options, Algorithm algorithm,
        BatchNormMode batch_norm);

  /// Replicas take the merged weights; batch norm stays theirs where it is local. A merged tail that holds
  /// copies of blocks that devices hold too begins a round as they do. `control`: SCAFFOLD's c.
  Result<void> begin_round(const std::vector<ClientId>& clients, const NamedTensors& control);

  /// The tail that the client's steps train.
  TailTrainer& of(const ClientId& client);
  bool has_replicas() const { return has_replicas_; }
  /// What of the merged tail is merged with replicas.
  NamedTensors exchanged() const;
  /// A replica's weights for the merge, aliases; requires replicas.
  NamedTensors replica_weights(const ClientId& client);
  /// SCAFFOLD: change of a replica's control variates; empty without replicas.
  NamedTensors end_round(const ClientId& client);

  /// Returns the outputs of the merged tail for a client's activations, in evaluation mode: with the batch
  /// norm of its own replica where that stays local.
  at::Tensor evaluate(const ClientId& client, const at::Tensor& activations);

  /// The merged tail's trainer: for evaluation, and its optimiser's state.
  TailTrainer& merged() { return merged_; }
  const TailTrainer& merged() const { return merged_; }
  /// What a checkpoint keeps besides the merged model: the shared tail's optimiser, or each replica's weights
  /// and optimiser. Between steps or inside an open one, which then never was.
  NamedTensors state() const;
  /// Restores what `state` returned. An error may leave a part of it loaded.
  Result<void> load_state(const NamedTensors& state, const std::vector<ClientId>& replicas);
  /// Clients that have, or had, a replica.
  std::vector<ClientId> replicas() const;

 private:
  /// What is a client's own between two rounds: what of a replica is not merged, and its optimiser.
  NamedTensors own_state(const TailTrainer& replica) const;
  Result<std::unique_ptr<TailTrainer>> make_replica(const ClientId& client, const NamedTensors& own) const;

  TailTrainerOptions options_;
  ClientPartitions partitions_;
  bool has_replicas_;
  BatchNormMode batch_norm_;
  TailTrainer merged_;
  std::map<ClientId, std::unique_ptr<TailTrainer>> replicas_;  // of the round's clients
  std::map<ClientId, NamedTensors> parked_;                    // own_state of the others
};

}  // namespace tandem::aggregator
