#pragma once

#include <cstdint>
#include <vector>

#include "tandem/aggregator/session/messenger.h"
#include "tandem/aggregator/session/session_options.h"
#include "tandem/aggregator/tail/smashed_data.h"
#include "tandem/aggregator/tail/tails.h"
#include "tandem/aggregator/tail/trained_model.h"
#include "tandem/core/base/ids.h"

namespace tandem::aggregator {

/// The part of a round's end that brings the aligned objective's tail and auxiliary head into line (FSL-SAGE,
/// ICML 2025): the tails go over the round's smashed data once more, then the head is fitted to the merged
/// tail's gradients. Everything given to the constructor must outlive it. Not thread-safe.
class AlignPhase {
 public:
  AlignPhase(const SessionOptions& options, Messenger& messenger, TrainedModel& model)
      : options_(options), messenger_(messenger), model_(model) {}

  /// Whether the round `ordinal`, from 1, ends with this phase.
  bool ends(uint32_t ordinal) const;
  /// Lets a replica catch up on what its client sent, before the replica is merged.
  void replay_replica(uint32_t ordinal, Tails& tails, const SmashedData& smashed, const ClientId& client);
  /// Lets the shared tail catch up on what `clients` sent, where there are no replicas, and fits the
  /// auxiliary head.
  void finish(uint32_t ordinal, Tails& tails, const SmashedData& smashed,
              const std::vector<ClientId>& clients);

 private:
  void replay(uint32_t ordinal, TailTrainer& tail, const std::vector<SmashedBatch>& smashed,
              const std::string& client);
  void fit_auxiliary_head(uint32_t ordinal, const std::vector<SmashedBatch>& smashed);

  const SessionOptions& options_;
  Messenger& messenger_;
  TrainedModel& model_;
};

}  // namespace tandem::aggregator
