#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <vector>

#include "tandem/aggregator/strategies/strategy.h"
#include "tandem/core/base/ids.h"
#include "tandem/core/base/result.h"

namespace tandem::aggregator {

/// Collects the clients' updates at the end of a round and hands them to the strategy. Clients are asked in
/// id order with at most eight outstanding, and added in id order, so memory stays flat and the result does
/// not depend on the order of arrival. Not thread-safe.
class UpdateMerge {
 public:
  static constexpr size_t kMaxOutstanding = 8;

  /// Takes an update in its turn; false leaves it out.
  using Add = std::function<bool(ClientUpdate)>;

  /// `weights`: the examples each contributor trained on.
  UpdateMerge(std::map<ClientId, uint64_t> weights, Add add);

  /// Clients to ask now; each is named once.
  std::vector<ClientId> next_to_ask();

  /// Everybody who was not asked yet, at once: what arrives then is held until its turn.
  std::vector<ClientId> ask_all();

  /// Whether this client was asked and has neither answered nor been given up.
  bool waits_for(const ClientId& client) const;

  /// A contributor's update: it weighs as the fewer of the examples it claims and those it was sent answers
  /// for, and is left out where that is none. Others whose turn came only now may be added too.
  void receive(ClientUpdate update);

  /// The merge goes on without this client.
  void give_up(const ClientId& client);

  /// Clients asked that have not answered.
  std::vector<ClientId> outstanding() const;
  bool complete() const { return next_to_add_ == order_.size(); }
  /// Updates that were added.
  const std::vector<ClientId>& merged() const { return merged_; }

 private:
  enum class State { kWaiting, kAsked, kReceived, kGivenUp };
  struct Contributor {
    ClientUpdate update;
    State state = State::kWaiting;
  };

  std::vector<ClientId> ask_up_to(size_t end);
  Contributor* find(const ClientId& client);
  const Contributor* find(const ClientId& client) const;
  void add_in_order();

  std::vector<Contributor> order_;
  Add add_;
  size_t next_to_add_ = 0;
  std::vector<ClientId> merged_;
};

}  // namespace tandem::aggregator
