#include "tandem/aggregator/rounds/merge_phase.h"

#include <algorithm>
#include <utility>

namespace tandem::aggregator {

std::map<ClientId, uint64_t> MergePhase::contributors(const Round& round, const TrainingPlan& plan,
                                                      bool now) {
  std::map<ClientId, uint64_t> examples;
  for (const auto& [client, part] : round.participants()) {
    const bool unknown = now && plan.trains_locally() && !part.trained;
    const uint64_t count = unknown ? part.planned_examples() : part.figures.examples;
    if (part.active && count > 0) examples[client] = count;
  }
  return examples;
}

MergePhase::MergePhase(Context context, std::map<ClientId, uint64_t> contributors, bool now,
                       std::function<void(const ClientId&)> prepare)
    : context_(context),
      now_(now),
      prepare_(std::move(prepare)),
      updates_(std::move(contributors), [this](ClientUpdate update) { return take(std::move(update)); }) {
  const ClientPartitions& partitions = context_.model.partitions;
  if (!partitions.equal() && !context_.tails->has_replicas()) {
    blocks_.emplace(cpu_snapshot(layout()), partitions.entries());
  } else {
    context_.strategy.begin(cpu_snapshot(layout()));
  }
}

NamedTensors MergePhase::layout() const {
  // A replica completes the front of its client to the whole model, wherever that is cut.
  const bool equal = context_.model.partitions.equal();
  if (!equal && context_.tails->has_replicas()) return context_.model.whole.state();
  NamedTensors layout = context_.model.device.exchanged();
  if (context_.tails && context_.tails->has_replicas()) append(layout, context_.tails->exchanged());
  return layout;
}

void MergePhase::ask() {
  // Time is up for all at once; otherwise a few at a time keep memory flat.
  const std::vector<ClientId> asked = now_ ? updates_.ask_all() : updates_.next_to_ask();
  for (const ClientId& client : asked) {
    context_.messenger.send(client, wire::EndRound{.now = now_}, context_.round.id().value);
  }
  if (!asked.empty()) context_.deadlines.ask_for_fronts();
}

bool MergePhase::take(ClientUpdate update) {
  const ClientId client = update.client;
  const auto added = add(std::move(update));
  context_.divergence.note(client, added);
  if (!added) {
    context_.messenger.offence(client, "bad-front", added.error().message + "; left out of the merge");
  }
  return added.has_value();
}

Result<void> MergePhase::add(ClientUpdate update) {
  const TrainingPlan& plan = context_.options.plan;
  Participant& part = context_.round.participants().at(update.client);
  // Of steps that were answered here the aggregator knows better.
  update.steps = plan.trains_locally()
                     ? std::clamp<uint32_t>(update.steps, 1, std::max(1u, part.planned_steps()))
                     : std::max(1u, part.steps);
  if (!plan.control_variates) update.control_change.clear();
  if (plan.trains_locally() && !part.trained) {
    part.figures.examples = update.examples;
    part.steps = update.steps;
    context_.figures.applied_examples += static_cast<int64_t>(update.examples);
  }
  if (context_.tails && context_.tails->has_replicas()) {
    prepare_(update.client);
    append(update.weights, cpu_snapshot(context_.tails->replica_weights(update.client)));
    append(update.control_change, cpu_snapshot(context_.tails->end_round(update.client)));
  }
  if (blocks_) {
    const Stage& front = context_.model.partitions.of(update.client).front();
    return blocks_->add(update.client, front.first, front.last, update.weights, update.examples);
  }
  return context_.strategy.add(std::move(update));
}

int MergePhase::finish() {
  if (updates_.merged().empty()) {
    context_.messenger.event("merge-empty", "",
                             "no usable front came back; the edge weights stay as they were");
    return 0;
  }
  blocks_ ? merge_blocks() : load(context_.strategy.merge());
  return static_cast<int>(updates_.merged().size());
}

/// The aggregator's copy of a stage counts as the examples of all clients whose activations went through it:
/// it has learned from those too whose own weights did not come back.
void MergePhase::merge_blocks() {
  const NamedTensors places = layout();
  const std::vector<int> entries = context_.model.partitions.entries();
  for (size_t stage = 0; stage + 1 < entries.size(); ++stage) {
    uint64_t examples = 0;
    for (const auto& [client, part] : context_.round.participants()) {
      const bool goes_through = context_.model.partitions.of(client).front().last <= entries[stage];
      if (goes_through) examples += part.figures.examples;
    }
    if (examples == 0) continue;
    const int first = entries[stage];
    const int last = entries[stage + 1];
    const NamedTensors copy = cpu_snapshot(tensors_of_blocks(places, first, last));
    if (auto added = blocks_->add({"aggregator"}, first, last, copy, examples); !added) {
      return load(Result<NamedTensors>(added.error()));
    }
  }
  const NamedTensors merged = blocks_->merged();
  copy_values(merged, named_like(merged, places));
}

void MergePhase::load(const Result<NamedTensors>& merged) {
  if (!merged && merged.error().code == ErrorCode::kNonFinite) {
    return fail_unless(context_.messenger, context_.divergence.error(merged.error().message));
  }
  if (!merged) {
    return context_.messenger.event("merge-skipped", "",
                                    merged.error().message + "; the edge weights stay as they were");
  }
  copy_values(*merged, layout());
  for (const ClientId& client : context_.strategy.left_out()) {
    context_.messenger.event("left-out", client.name, "the strategy did not select its update");
  }
}

}  // namespace tandem::aggregator
