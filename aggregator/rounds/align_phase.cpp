#include "tandem/aggregator/rounds/align_phase.h"

#include <string>

#include "tandem/aggregator/tail/auxiliary_alignment.h"
#include "tandem/aggregator/tail/tail_replay.h"
#include "tandem/core/base/random.h"

namespace tandem::aggregator {

bool AlignPhase::ends(uint32_t ordinal) const {
  return options_.plan.objective == EdgeObjective::kAligned && ordinal % options_.alignment.interval == 0;
}

void AlignPhase::replay_replica(uint32_t ordinal, Tails& tails, const SmashedData& smashed,
                                const ClientId& client) {
  replay(ordinal, tails.of(client), smashed.batches({client}), client.name);
}

void AlignPhase::finish(uint32_t ordinal, Tails& tails, const SmashedData& smashed,
                        const std::vector<ClientId>& clients) {
  const std::vector<SmashedBatch> batches = smashed.batches(clients);
  if (!tails.has_replicas()) replay(ordinal, tails.merged(), batches, "");
  fit_auxiliary_head(ordinal, batches);
}

/// A tail that is behind the fronts has little to say to them: first it catches up.
void AlignPhase::replay(uint32_t ordinal, TailTrainer& tail, const std::vector<SmashedBatch>& smashed,
                        const std::string& client) {
  if (smashed.empty() || options_.alignment.tail_epochs == 0) return;
  const double loss =
      aggregator::replay(tail, smashed,
                         {.epochs = options_.alignment.tail_epochs,
                          .batch_size = options_.batch_size,
                          .minimum_batch = model_.minimum_batch,
                          .seed = derive_seed(options_.plan.seed, RandomPurpose::kAlign, {ordinal})});
  messenger_.event("replayed", client, "mean loss on the round's smashed data: " + std::to_string(loss));
}

void AlignPhase::fit_auxiliary_head(uint32_t ordinal, const std::vector<SmashedBatch>& smashed) {
  if (smashed.empty() || options_.alignment.epochs == 0) return;
  const AlignmentReport report =
      align_auxiliary_head(*model_.device.auxiliary, *model_.tail, smashed,
                           {.epochs = options_.alignment.epochs,
                            .learning_rate = options_.alignment.learning_rate,
                            .compute = options_.compute,
                            .seed = derive_seed(options_.plan.seed, RandomPurpose::kAlign, {ordinal})});
  messenger_.event("aligned", "",
                   "relative error of the auxiliary head's gradients " + std::to_string(report.error_before) +
                       " before, " + std::to_string(report.error_after) + " after");
}

}  // namespace tandem::aggregator
