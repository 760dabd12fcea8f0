#include "tandem/aggregator/session/roster.h"

namespace tandem::aggregator {

Roster::Admission Roster::admit(const ClientId& client, ConnectionId connection, uint64_t instance,
                                const DataDescription& data, TimePoint now) {
  Member& member = members_[client];
  Admission admission{.previous = member.connection};
  if (member.present || member.awaited) {
    admission.arrival = member.instance == instance ? Arrival::kReconnected : Arrival::kReplaced;
  }
  if (member.instance != instance) member.replies.clear();
  member.connection = connection;
  member.instance = instance;
  member.data = data;
  set_present(member, true);
  member.awaited = false;
  member.said_bye = false;
  member.paused = false;
  member.last_heard = now;
  return admission;
}

Member* Roster::find(const ClientId& client, ConnectionId connection) {
  Member* member = find(client);
  return member != nullptr && member->connection == connection ? member : nullptr;
}

Member* Roster::find(const ClientId& client) {
  const auto found = members_.find(client);
  return found == members_.end() ? nullptr : &found->second;
}

const Member* Roster::find(const ClientId& client) const {
  const auto found = members_.find(client);
  return found == members_.end() ? nullptr : &found->second;
}

void Roster::depart(const ClientId& client, bool awaited) {
  Member* member = find(client);
  if (member == nullptr) return;
  set_present(*member, false);
  member->awaited = awaited;
}

void Roster::set_present(Member& member, bool present) {
  if (member.present != present) present_count_ += present ? 1 : -1;
  member.present = present;
}

void Roster::restore(const ClientId& client, Member member) {
  set_present(members_[client], member.present);
  members_[client] = std::move(member);
}

void Roster::return_to_place(const ClientId& client) {
  set_present(members_.at(client), true);
}

std::vector<ClientId> Roster::present() const {
  return those([](const Member& member) { return member.present; });
}

std::vector<ClientId> Roster::awaited() const {
  return those([](const Member& member) { return member.awaited; });
}

std::vector<ClientId> Roster::silent_since(TimePoint since) const {
  return those([since](const Member& member) {
    return (member.present || member.awaited) && member.last_heard < since;
  });
}

template <class Predicate>
std::vector<ClientId> Roster::those(Predicate holds) const {
  std::vector<ClientId> clients;
  for (const auto& [client, member] : members_) {
    if (holds(member)) clients.push_back(client);
  }
  return clients;
}

}  // namespace tandem::aggregator
