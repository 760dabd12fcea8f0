#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "tandem/core/base/ids.h"
#include "tandem/core/training/federated_average.h"

namespace tandem::aggregator {

/// Collects the fronts at the end of a round and averages them. Clients are asked in id order with at most
/// eight outstanding, and added in id order, so memory stays flat and the result does not depend on the
/// order of arrival. Not thread-safe.
class FrontMerge {
 public:
  static constexpr size_t kMaxOutstanding = 8;

  /// `layout` names the tensors every front must have; `weights` the examples each contributor trained on.
  FrontMerge(NamedTensors layout, std::map<ClientId, uint64_t> weights);

  /// Clients to ask now; each is named once.
  std::vector<ClientId> next_to_ask();

  /// Whether this client was asked and has neither answered nor been given up.
  bool waits_for(const ClientId& client) const;

  /// A contributor's front, trained on `examples`: it weighs as the fewer of these and those it was sent
  /// gradients for, and is left out where that is none. An update that does not fit (see
  /// FederatedAverage::add) is left out and the error returned, possibly for an earlier client whose turn
  /// came only now.
  std::vector<Error> receive(const ClientId& client, NamedTensors front, uint64_t examples);

  /// The average goes on without this client.
  std::vector<Error> give_up(const ClientId& client);

  /// Clients asked that have not answered.
  std::vector<ClientId> outstanding() const;
  bool complete() const { return next_to_add_ == order_.size(); }
  int merged_clients() const { return average_.clients(); }

  /// Requires complete(); none when no update was usable.
  std::optional<NamedTensors> mean() const;

 private:
  enum class State { kWaiting, kAsked, kReceived, kGivenUp };
  struct Contributor {
    ClientId client;
    uint64_t examples = 0;
    State state = State::kWaiting;
    NamedTensors front;
  };

  Contributor* find(const ClientId& client);
  const Contributor* find(const ClientId& client) const;
  std::vector<Error> add_in_order();

  std::vector<Contributor> order_;
  size_t next_to_add_ = 0;
  FederatedAverage average_;
};

}  // namespace tandem::aggregator
