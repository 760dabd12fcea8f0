#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <vector>

#include "tandem/core/base/ids.h"
#include "tandem/core/base/result.h"
#include "tandem/core/training/figures.h"

namespace tandem::aggregator {

/// Federated evaluation: the clients evaluate the merged model on examples they hold back, and the figures
/// are averaged by examples. Not thread-safe.
class HeldOutEvaluation {
 public:
  /// `round`: of its messages. `examples`: how many each client said it holds back, >= 1. `batch_size_of`: of
  /// the batches that a client sends for the tail, 0 where the whole model is on it.
  HeldOutEvaluation(uint32_t round, const std::map<ClientId, uint64_t>& examples,
                    const std::function<int64_t(const ClientId&)>& batch_size_of);

  uint32_t round() const { return round_; }
  bool waits_for(const ClientId& client) const { return outstanding_.contains(client); }
  bool waits_for_any(const std::vector<ClientId>& clients) const;
  std::vector<ClientId> outstanding() const;
  bool complete() const { return outstanding_.empty(); }

  /// Examples of batch `step` of this client, if it is the next one or the one before, which may have to be
  /// answered again.
  std::optional<int64_t> expected_batch(const ClientId& client, uint32_t step) const;
  /// Its batches come from the first one on again.
  void start_again(const ClientId& client) { outstanding_.at(client).batches = 0; }
  /// That batch was answered; true when it was the next one.
  bool count_batch(const ClientId& client, uint32_t step);

  /// A client's figures; an error says why they cannot be, and it is left out.
  Result<void> record(const ClientId& client, const Figures& result);
  void give_up(const ClientId& client) { outstanding_.erase(client); }

  /// Over all clients that answered; none when nobody did.
  std::optional<double> loss() const;
  std::optional<double> accuracy() const;
  const std::map<ClientId, Figures>& results() const { return results_; }

 private:
  struct Progress {
    uint64_t examples = 0;
    int64_t batch_size = 0;
    uint32_t batches = 0;  ///< answered
  };
  Figures totals() const;

  uint32_t round_;
  std::map<ClientId, Progress> outstanding_;
  std::map<ClientId, Figures> results_;
};

}  // namespace tandem::aggregator
