#include "tandem/aggregator/tail/tails.h"

#include <algorithm>
#include <iterator>
#include <string>
#include <utility>

#include "tandem/core/training/device_model.h"

namespace tandem::aggregator {
namespace {

// Names in their state.
constexpr const char* kWeights = "weights.";
constexpr const char* kOptimizer = "optimizer.";

std::string replica_prefix(const ClientId& client) {
  return "replica." + client.name + "/";
}

}  // namespace

Tails::Tails(ModelPart tail, ClientPartitions partitions, TailTrainerOptions options, Algorithm algorithm,
             BatchNormMode batch_norm)
    : options_(options),
      partitions_(std::move(partitions)),
      has_replicas_(algorithm == Algorithm::kSplitFedV1),
      batch_norm_(batch_norm),
      merged_(std::move(tail), partitions_.entries(), options) {
  // Nothing is local about a tail that all clients share.
  if (!has_replicas_) batch_norm_ = BatchNormMode::kAverage;
}

NamedTensors Tails::own_state(const TailTrainer& replica) const {
  NamedTensors state;
  if (batch_norm_ == BatchNormMode::kLocal) append(state, replica.tail().batch_norm_state(), kWeights);
  append(state, replica.optimizer_state(), kOptimizer);
  return state;
}

Result<std::unique_ptr<TailTrainer>> Tails::make_replica(const ClientId& client,
                                                         const NamedTensors& own) const {
  const Stage place = *partitions_.of(client).tail();
  auto replica =
      std::make_unique<TailTrainer>(merged_.tail().slice(place.first, place.last).clone(), options_);
  if (own.empty()) return replica;
  const NamedTensors kept = without_prefix(own, kWeights);
  const NamedTensors places = named_like(kept, replica->tail().state());
  if (auto checked = check_same_layout(places, kept); !checked) return checked.error();
  if (auto checked = check_finite(kept); !checked) return checked.error();
  copy_values(kept, places);
  auto loaded = replica->load_optimizer_state(without_prefix(own, kOptimizer));
  if (!loaded) return loaded.error();
  return replica;
}

Result<void> Tails::begin_round(const std::vector<ClientId>& clients, const NamedTensors& control) {
  if (!has_replicas_) return partitions_.equal() ? Result<void>() : merged_.begin_round(control);
  for (auto entry = replicas_.begin(); entry != replicas_.end();) {
    const auto& [client, replica] = *entry;
    const bool stays = std::find(clients.begin(), clients.end(), client) != clients.end();
    if (!stays) parked_[client] = own_state(*replica);
    entry = stays ? std::next(entry) : replicas_.erase(entry);
  }
  for (const ClientId& client : clients) {
    std::unique_ptr<TailTrainer>& replica = replicas_[client];
    if (!replica) {
      const auto parked = parked_.extract(client);
      auto made = make_replica(client, parked ? parked.mapped() : NamedTensors{});
      if (!made) return made.error();
      replica = std::move(*made);
    }
    const NamedTensors places = exchanged_state(replica->tail(), batch_norm_);
    copy_values(named_like(places, exchanged()), places);
    if (auto begun = replica->begin_round(control); !begun) return begun;
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
  return has_replicas_ ? replicas_.at(client)->end_round() : NamedTensors{};
}

at::Tensor Tails::evaluate(const ClientId& client, const at::Tensor& activations) {
  if (!has_replicas_ || batch_norm_ != BatchNormMode::kLocal) {
    return merged_.evaluate(activations, partitions_.of(client).front().last);
  }
  const NamedTensors places = replica_weights(client);
  copy_values(named_like(places, exchanged()), places);
  return replicas_.at(client)->evaluate(activations);
}

NamedTensors Tails::state() const {
  NamedTensors state;
  append(state, merged_.optimizer_state(), kOptimizer);
  for (const auto& [client, replica] : replicas_) {
    append(state, replica->settled_state(), replica_prefix(client) + kWeights);
    append(state, replica->optimizer_state(), replica_prefix(client) + kOptimizer);
  }
  for (const auto& [client, own] : parked_) append(state, own, replica_prefix(client));
  return state;
}

Result<void> Tails::load_state(const NamedTensors& state, const std::vector<ClientId>& replicas) {
  if (auto loaded = merged_.load_optimizer_state(without_prefix(state, kOptimizer)); !loaded) return loaded;
  for (const ClientId& client : replicas) {
    auto replica = make_replica(client, without_prefix(state, replica_prefix(client)));
    if (!replica) return replica.error();
    replicas_.insert_or_assign(client, std::move(*replica));
  }
  return {};
}

std::vector<ClientId> Tails::replicas() const {
  std::vector<ClientId> clients;
  for (const auto& [client, replica] : replicas_) clients.push_back(client);
  for (const auto& [client, own] : parked_) clients.push_back(client);
  return clients;
}

}  // namespace tandem::aggregator
