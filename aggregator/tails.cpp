#include "tandem/aggregator/tails.h"

#include <utility>

#include "tandem/core/training/device_model.h"

namespace tandem::aggregator {

Tails::Tails(ModelPart tail, TailTrainerOptions options, Algorithm algorithm, BatchNormMode batch_norm)
    : options_(options),
      has_replicas_(algorithm == Algorithm::kSplitFedV1),
      batch_norm_(batch_norm),
      merged_(std::move(tail), options) {
  // Nothing is local about a tail that all clients share.
  if (!has_replicas_) batch_norm_ = BatchNormMode::kAverage;
}

Result<void> Tails::begin_round(const std::vector<ClientId>& clients, const NamedTensors& control) {
  if (!has_replicas_) return {};
  for (const ClientId& client : clients) {
    std::unique_ptr<TailTrainer>& replica = replicas_[client];
    if (!replica) replica = std::make_unique<TailTrainer>(merged_.tail().clone(), options_);
    copy_values(exchanged(), exchanged_state(replica->tail(), batch_norm_));
    if (auto begun = replica->optimizer().begin_round(control); !begun) return begun;
  }
  return {};
}

TailTrainer& Tails::of(const ClientId& client) {
  return has_replicas_ ? *replicas_.at(client) : merged_;
}

NamedTensors Tails::exchanged() const {
  return exchanged_state(merged_.tail(), batch_norm_);
}

NamedTensors Tails::replica_weights(const ClientId& client) {
  return exchanged_state(replicas_.at(client)->tail(), batch_norm_);
}

NamedTensors Tails::end_round(const ClientId& client) {
  return has_replicas_ ? replicas_.at(client)->optimizer().end_round() : NamedTensors{};
}

TailTrainer& Tails::for_evaluation(const ClientId& client) {
  if (!has_replicas_ || batch_norm_ != BatchNormMode::kLocal) return merged_;
  copy_values(exchanged(), replica_weights(client));
  return *replicas_.at(client);
}

NamedTensors Tails::optimizer_state() const {
  if (!has_replicas_) return merged_.optimizer().state();
  NamedTensors all;
  for (const auto& [client, replica] : replicas_) {
    for (NamedTensor& entry : replica->optimizer().state()) {
      all.push_back({client.name + "/" + entry.name, std::move(entry.tensor)});
    }
  }
  return all;
}

}  // namespace tandem::aggregator
