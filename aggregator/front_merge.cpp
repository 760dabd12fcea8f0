#include "tandem/aggregator/front_merge.h"

#include <algorithm>
#include <utility>

namespace tandem::aggregator {

FrontMerge::FrontMerge(NamedTensors layout, std::map<ClientId, uint64_t> weights)
    : average_(std::move(layout)) {
  for (const auto& [client, examples] : weights) order_.push_back({.client = client, .examples = examples});
}

FrontMerge::Contributor* FrontMerge::find(const ClientId& client) {
  const auto found = std::find_if(order_.begin(), order_.end(),
                                  [&](const Contributor& entry) { return entry.client == client; });
  return found == order_.end() ? nullptr : &*found;
}

const FrontMerge::Contributor* FrontMerge::find(const ClientId& client) const {
  return const_cast<FrontMerge*>(this)->find(client);
}

std::vector<ClientId> FrontMerge::next_to_ask() {
  // The window begins at the next client to add: those behind it that answered early still hold memory.
  std::vector<ClientId> clients;
  const size_t end = std::min(order_.size(), next_to_add_ + kMaxOutstanding);
  for (size_t i = next_to_add_; i < end; ++i) {
    if (order_[i].state != State::kWaiting) continue;
    order_[i].state = State::kAsked;
    clients.push_back(order_[i].client);
  }
  return clients;
}

bool FrontMerge::waits_for(const ClientId& client) const {
  const Contributor* entry = find(client);
  return entry != nullptr && entry->state == State::kAsked;
}

std::vector<Error> FrontMerge::receive(const ClientId& client, NamedTensors front, uint64_t examples) {
  Contributor* entry = find(client);
  if (entry == nullptr || entry->state != State::kAsked) return {};
  entry->examples = std::min(entry->examples, examples);
  entry->state = entry->examples > 0 ? State::kReceived : State::kGivenUp;
  entry->front = std::move(front);
  return add_in_order();
}

std::vector<Error> FrontMerge::give_up(const ClientId& client) {
  Contributor* entry = find(client);
  if (entry == nullptr || entry->state == State::kReceived) return {};
  entry->state = State::kGivenUp;
  return add_in_order();
}

std::vector<Error> FrontMerge::add_in_order() {
  std::vector<Error> errors;
  for (; next_to_add_ < order_.size(); ++next_to_add_) {
    Contributor& entry = order_[next_to_add_];
    if (entry.state == State::kGivenUp) continue;
    if (entry.state != State::kReceived) break;
    const auto added = average_.add(entry.client, entry.front, entry.examples);
    if (!added) errors.push_back(added.error());
    entry.front.clear();
  }
  return errors;
}

std::vector<ClientId> FrontMerge::outstanding() const {
  std::vector<ClientId> clients;
  for (const Contributor& entry : order_) {
    if (entry.state == State::kAsked) clients.push_back(entry.client);
  }
  return clients;
}

std::optional<NamedTensors> FrontMerge::mean() const {
  if (average_.clients() == 0) return std::nullopt;
  return average_.mean();
}

}  // namespace tandem::aggregator
