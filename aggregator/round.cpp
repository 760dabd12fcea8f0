#include "tandem/aggregator/round.h"

#include <algorithm>
#include <utility>

namespace tandem::aggregator {
namespace {
constexpr uint32_t kMissesThatExclude = 2;
}

Round::Round(RoundId id, RoundPlan plan) : id_(id), steps_(plan.steps) {
  for (auto& [client, sizes] : plan.batch_sizes) participants_[client].batch_sizes = std::move(sizes);
}

Participant* Round::active(const ClientId& client) {
  const auto found = participants_.find(client);
  return found == participants_.end() || !found->second.active ? nullptr : &found->second;
}

int Round::active_count() const {
  return static_cast<int>(std::count_if(participants_.begin(), participants_.end(),
                                        [](const auto& entry) { return entry.second.active; }));
}

uint32_t Round::planned(const ClientId& client, uint32_t step) const {
  const auto found = participants_.find(client);
  return found == participants_.end() || step >= steps_ ? 0 : found->second.batch_sizes[step];
}

bool Round::is_open(const ClientId& client, uint32_t step, uint32_t window) const {
  if (step < current_ || planned(client, step) == 0) return false;
  for (uint32_t earlier = current_; uint64_t{earlier} + window <= step; ++earlier) {
    if (planned(client, earlier) > 0) return false;
  }
  return true;
}

bool Round::has(const ClientId& client, uint32_t step) const {
  const auto found = arrived_.find(step);
  return found != arrived_.end() && found->second.contains(client);
}

void Round::put(uint32_t step, ClientActivations activations) {
  const ClientId client = activations.client;
  arrived_[step].insert_or_assign(client, std::move(activations));
}

std::vector<ClientId> Round::missing() const {
  std::vector<ClientId> clients;
  for (const auto& [client, part] : participants_) {
    const auto excuse = excused_.find(client);
    const bool excused = excuse != excused_.end() && excuse->second == current_;
    if (part.active && !excused && planned(client, current_) > 0 && !has(client, current_)) {
      clients.push_back(client);
    }
  }
  return clients;
}

bool Round::miss(const ClientId& client) {
  Participant* part = active(client);
  if (part == nullptr) return true;
  excused_[client] = current_;
  if (++part->missed < kMissesThatExclude) return false;
  deactivate(client);
  return true;
}

void Round::deactivate(const ClientId& client) {
  if (Participant* part = active(client)) part->active = false;
  for (auto& [step, arrived] : arrived_) arrived.erase(client);
}

std::vector<ClientActivations> Round::take_and_advance() {
  std::vector<ClientActivations> step;
  if (auto arrived = arrived_.extract(current_)) {
    for (auto& [client, activations] : arrived.mapped()) step.push_back(std::move(activations));
  }
  ++current_;
  return step;
}

}  // namespace tandem::aggregator
