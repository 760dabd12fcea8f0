#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "tandem/core/base/ids.h"
#include "tandem/core/base/result.h"
#include "tandem/core/wire/messages.h"

namespace tandem::aggregator {

/// Federated evaluation: the clients evaluate the merged model on examples they hold back, and the figures
/// are averaged by examples. Not thread-safe.
class HeldOutEvaluation {
 public:
  /// `round`: of its messages. `examples`: how many each client said it holds back, >= 1.
  HeldOutEvaluation(uint32_t round, std::map<ClientId, uint64_t> examples);

  uint32_t round() const { return round_; }
  bool waits_for(const ClientId& client) const { return outstanding_.contains(client); }
  std::vector<ClientId> outstanding() const;
  bool complete() const { return outstanding_.empty(); }

  /// A client's figures; an error says why they cannot be, and it is left out.
  Result<void> record(const ClientId& client, const wire::Evaluated& result);
  void give_up(const ClientId& client) { outstanding_.erase(client); }

  /// Over all clients that answered; none when nobody did.
  std::optional<double> loss() const;
  std::optional<double> accuracy() const;
  const std::map<ClientId, wire::Evaluated>& results() const { return results_; }

 private:
  wire::Evaluated totals() const;

  uint32_t round_;
  std::map<ClientId, uint64_t> outstanding_;
  std::map<ClientId, wire::Evaluated> results_;
};

}  // namespace tandem::aggregator
