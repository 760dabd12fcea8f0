#include "tandem/aggregator/rounds/update_merge.h"

#include <algorithm>
#include <utility>

namespace tandem::aggregator {

UpdateMerge::UpdateMerge(std::map<ClientId, uint64_t> weights, Add add) : add_(std::move(add)) {
  for (const auto& [client, examples] : weights) {
    order_.push_back({.update = {.client = client, .examples = examples}});
  }
}

UpdateMerge::Contributor* UpdateMerge::find(const ClientId& client) {
  const auto found = std::find_if(order_.begin(), order_.end(),
                                  [&](const Contributor& entry) { return entry.update.client == client; });
  return found == order_.end() ? nullptr : &*found;
}

const UpdateMerge::Contributor* UpdateMerge::find(const ClientId& client) const {
  return const_cast<UpdateMerge*>(this)->find(client);
}

std::vector<ClientId> UpdateMerge::next_to_ask() {
  // The window begins at the next client to add: those behind it that answered early still hold memory.
  return ask_up_to(std::min(order_.size(), next_to_add_ + kMaxOutstanding));
}

std::vector<ClientId> UpdateMerge::ask_all() {
  return ask_up_to(order_.size());
}

std::vector<ClientId> UpdateMerge::ask_up_to(size_t end) {
  std::vector<ClientId> clients;
  for (size_t i = next_to_add_; i < end; ++i) {
    if (order_[i].state != State::kWaiting) continue;
    order_[i].state = State::kAsked;
    clients.push_back(order_[i].update.client);
  }
  return clients;
}

bool UpdateMerge::waits_for(const ClientId& client) const {
  const Contributor* entry = find(client);
  return entry != nullptr && entry->state == State::kAsked;
}

void UpdateMerge::receive(ClientUpdate update) {
  Contributor* entry = find(update.client);
  if (entry == nullptr || entry->state != State::kAsked) return;
  update.examples = std::min(entry->update.examples, update.examples);
  entry->state = update.examples > 0 ? State::kReceived : State::kGivenUp;
  entry->update = std::move(update);
  add_in_order();
}

void UpdateMerge::give_up(const ClientId& client) {
  Contributor* entry = find(client);
  if (entry == nullptr || entry->state == State::kReceived) return;
  entry->state = State::kGivenUp;
  add_in_order();
}

void UpdateMerge::add_in_order() {
  for (; next_to_add_ < order_.size(); ++next_to_add_) {
    Contributor& entry = order_[next_to_add_];
    if (entry.state == State::kGivenUp) continue;
    if (entry.state != State::kReceived) break;
    const ClientId client = entry.update.client;
    if (add_(std::exchange(entry.update, {.client = client}))) merged_.push_back(client);
  }
}

std::vector<ClientId> UpdateMerge::outstanding() const {
  std::vector<ClientId> clients;
  for (const Contributor& entry : order_) {
    if (entry.state == State::kAsked) clients.push_back(entry.update.client);
  }
  return clients;
}

}  // namespace tandem::aggregator
