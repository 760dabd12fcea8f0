// The end of a round: merging, evaluation, and what is recorded of it.
#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "tandem/aggregator/evaluation/merged_evaluation.h"
#include "tandem/aggregator/rounds/round_figures.h"
#include "tandem/aggregator/rounds/training_rounds.h"

namespace tandem::aggregator {
namespace {

constexpr int kMaxAbandonedInARow = 3;

}  // namespace

// ---------------------------------------------------------------------------------------------------------
// Merging.

void TrainingRounds::begin_merge(bool now) {
  std::map<ClientId, uint64_t> contributors = MergePhase::contributors(*round_, options_.plan, now);
  divergence_.judge(*round_);
  const auto others = std::count_if(contributors.begin(), contributors.end(),
                                    [&](const auto& entry) { return !divergence_.knows(entry.first); });
  if (ends_as_diverged(static_cast<size_t>(others))) return;
  state_ = State::kMerging;
  merge_.emplace(MergePhase::Context{.options = options_,
                                     .messenger = messenger_,
                                     .model = model_,
                                     .strategy = *strategy_,
                                     .tails = tails_ ? &*tails_ : nullptr,
                                     .round = *round_,
                                     .deadlines = *deadlines_,
                                     .divergence = divergence_,
                                     .figures = figures_},
                 std::move(contributors), now, [this](const ClientId& client) {
                   if (!align_.ends(ordinal())) return;
                   align_.replay_replica(ordinal(), *tails_, steps_->smashed(), client);
                 });
  advance_merge();
}

void TrainingRounds::advance_merge() {
  merge_->ask();
  if (!messenger_.failure() && merge_->complete() && !is_paused()) finish_merge();
}

void TrainingRounds::finish_merge() {
  divergence_.judge(*round_);
  if (ends_as_diverged(0)) return;
  if (relay_ && merged_clients_ == 0) return abandon();
  if (merge_) merged_clients_ = merge_->finish();
  abandoned_in_a_row_ = 0;
  if (merged_clients_ > 0) divergence_.merged();
  if (align_.ends(ordinal())) {
    // Nothing of a client that was excluded, or has left, counts. Replicas have caught up by now.
    align_.finish(ordinal(), *tails_, steps_->smashed(), round_->active_clients());
  }
  fail_unless(messenger_, divergence_.check_weights("the merged model", model_.whole.state()));
  if (!messenger_.failure()) evaluate_or_complete();
}

/// Fails the run where what was noted is everybody's; `others`: clients without a note whose training counts.
bool TrainingRounds::ends_as_diverged(size_t others) {
  const auto verdict = divergence_.verdict(others, static_cast<size_t>(messenger_.roster().present_count()));
  if (verdict) fail_unless(messenger_, *verdict);
  return verdict.has_value();
}

// ---------------------------------------------------------------------------------------------------------
// Evaluation, and the end of a round.

void TrainingRounds::evaluate_or_complete() {
  if (evaluate_here(options_, model_, eval_data_, figures_)) return complete();
  std::map<ClientId, uint64_t> examples;
  for (const auto& [client, part] : round_->participants()) {
    const uint64_t held_out = messenger_.roster().find(client)->held_out_examples;
    if (part.active && held_out > 0) examples[client] = held_out;
  }
  if (examples.empty()) {
    say_that_nobody_evaluates(messenger_, eval_data_, figures_);
    return complete();
  }
  state_ = State::kEvaluating;
  sent_weights_ = cpu_snapshot(model_.device.exchanged());
  evaluation_.emplace(
      options_, messenger_, model_, tails_ ? &*tails_ : nullptr, now_,
      EvaluationRequest{.round = ++sequence_, .examples = std::move(examples), .weights = sent_weights_});
  for (const ClientId& client : evaluation_->progress().outstanding()) evaluation_->ask(client);
}

void TrainingRounds::handle_evaluation(const ClientId& client, const wire::Message& message) {
  evaluation_->receive(client, message);
  advance_evaluation();
}

void TrainingRounds::advance_evaluation() {
  if (state_ != State::kEvaluating || !evaluation_->complete()) return;
  figures_.eval_loss = evaluation_->progress().loss();
  figures_.eval_accuracy = evaluation_->progress().accuracy();
  complete();
}

void TrainingRounds::complete() {
  ++figures_.completed_rounds;
  std::map<int, TrafficModel> traffic;  // by cut
  for (const ModelPartition& partition : model_.partitions.distinct()) {
    TrafficModel& of_cut = traffic[partition.front().last] = traffic_model(model_, options_.plan, partition);
    if (sent_control_.empty()) of_cut.control_down_bytes = 0;  // the first round's is zero and not sent
  }
  RoundReport report = round_report(
      *round_, messenger_.roster(),
      [&](const ClientId& client) -> const TrafficModel& {
        return traffic.at(model_.partitions.of(client).front().last);
      },
      evaluation_ ? evaluation_->progress().results() : std::map<ClientId, Figures>{});
  RoundRecord& record = report.record;
  record.round = figures_.completed_rounds;
  record.eval_loss = figures_.eval_loss;
  record.eval_accuracy = figures_.eval_accuracy;
  record.clients = merged_clients_;
  record.seconds = seconds_between(start_.time, now_());
  record.bytes_up = messenger_.bytes_up() - start_.bytes_up;
  record.bytes_down = messenger_.bytes_down() - start_.bytes_down;
  for (ClientRecord& client : report.clients) client.round = figures_.completed_rounds;
  figures_.training_seconds += record.seconds;
  const bool is_last = figures_.completed_rounds >= options_.plan.rounds;
  const auto checked = !is_last      ? Result<void>()
                       : evaluation_ ? divergence_.check_evaluation(*evaluation_)
                                     : divergence_.check_evaluation(figures_.eval_loss);
  end_round();
  messenger_.observe(messenger_.observer().on_round(report));
  fail_unless(messenger_, checked);
  checkpoint_();
}

void TrainingRounds::abandon() {
  divergence_.judge(*round_);
  if (ends_as_diverged(0)) return;
  messenger_.event("round-abandoned", "", "no client is left in round " + std::to_string(ordinal()));
  figures_.training_seconds += seconds_between(start_.time, now_());
  if (messenger_.roster().present_count() > 0 && ++abandoned_in_a_row_ >= kMaxAbandonedInARow) {
    messenger_.fail(
        {ErrorCode::kNonFinite,
         std::to_string(kMaxAbandonedInARow) +
             " rounds in a row lost every client though clients are there: the training diverged or they "
             "are too slow; see the excluded clients in metrics.jsonl, lower --learning-rate or raise "
             "the deadline of --stragglers"});
  }
  end_round();
}

/// Who began the round and is not in what came of it, but for those that left by themselves.
void TrainingRounds::count_lost() {
  for (const auto& [client, part] : round_->participants()) {
    Member& member = *messenger_.roster().find(client);
    if ((!part.active || late_fronts_.contains(client)) && !member.said_bye) ++member.lost_rounds;
  }
}

void TrainingRounds::end_round() {
  count_lost();
  deadlines_.reset();
  steps_.reset();
  relay_.reset();
  round_.reset();
  merge_.reset();
  evaluation_.reset();
  state_ = State::kIdle;
}

}  // namespace tandem::aggregator
