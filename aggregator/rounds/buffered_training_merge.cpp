// What comes of the updates of asynchronous training: merges, and the evaluation after the last.
#include <utility>

#include "tandem/aggregator/evaluation/merged_evaluation.h"
#include "tandem/aggregator/rounds/buffered_training.h"
#include "tandem/aggregator/rounds/round_figures.h"

namespace tandem::aggregator {
namespace {

void add_evaluations(std::vector<ClientRecord>& records, const std::map<ClientId, Figures>& results) {
  for (const auto& [client, result] : results) {
    auto record = std::find_if(records.rbegin(), records.rend(),
                               [&](const ClientRecord& entry) { return entry.client == client.name; });
    if (record == records.rend()) {
      records.push_back({.client = client.name});
      record = records.rbegin();
    }
    add_evaluation(*record, result);
  }
}

}  // namespace

// ---------------------------------------------------------------------------------------------------------
// Updates.

std::map<ClientId, BufferedTraining::Task>::iterator BufferedTraining::next_to_take() {
  return std::min_element(tasks_.begin(), tasks_.end(), [](const auto& a, const auto& b) {
    return a.second.finish < b.second.finish;  // equally early: in client order, which is the map's
  });
}

void BufferedTraining::take_updates() {
  while (options_.update_order == UpdateOrder::kPlanned && !clock_.is_paused() && !idle() &&
         !messenger_.failure()) {
    const auto next = next_to_take();
    if (next == tasks_.end() || !next->second.update) return;
    take(ClientId(next->first));
  }
}

void BufferedTraining::take(const ClientId& client) {
  keep([&] { take_and_dispatch(client); });
}

void BufferedTraining::take_and_dispatch(const ClientId& client) {
  auto node = tasks_.extract(client);
  Task& task = node.mapped();
  ClientUpdate update = std::move(*task.update);
  update.staleness = figures_.completed_rounds - task.version;
  const Member& member = *messenger_.roster().find(client);
  if (update.examples == 0) {
    messenger_.event("bad-front", client.name, "it was trained on no example; left out of the buffer");
  } else if (const auto added = strategy_->add(std::move(update)); !added) {
    messenger_.offence(client, "bad-front", added.error().message + "; left out of the buffer");
    if (added.error().code == ErrorCode::kNonFinite) divergence_.useless(client, added.error().message);
    if (ends_as_diverged()) return;
  } else {
    failed_in_a_row_ = 0;
    divergence_.useful(client);
    const TrafficModel traffic = traffic_model(model_, options_.plan, model_.partitions.of(client));
    buffered_.push_back(client_record(client, task.part, member, traffic));
  }
  if (strategy_->updates() >= buffer_) merge();
  if (!idle() && !evaluation_ && !messenger_.failure()) dispatch(client, task.finish);
}

void BufferedTraining::merge() {
  const auto merged = strategy_->merge();
  if (!merged && merged.error().code == ErrorCode::kNonFinite) {
    return fail_unless(messenger_, divergence_.error(merged.error().message));
  }
  if (merged) {
    copy_values(*merged, model_.device.exchanged());
  } else {
    messenger_.event("merge-skipped", "", merged.error().message + "; the weights stay as they were");
  }
  weights_ = std::make_shared<const NamedTensors>(cpu_snapshot(model_.device.exchanged()));
  evaluate_or_complete();
}

// ---------------------------------------------------------------------------------------------------------
// Evaluation, and the end of a merge.

void BufferedTraining::evaluate_or_complete() {
  if (evaluate_here(options_, model_, eval_data_, figures_)) return complete_merge();
  std::map<ClientId, uint64_t> examples = held_out_examples();
  if (examples.empty()) say_that_nobody_evaluates(messenger_, eval_data_, figures_);
  const bool is_last = figures_.completed_rounds + 1 >= options_.plan.rounds;
  if (examples.empty() || !is_last) return complete_merge();
  begin_evaluation(std::move(examples));
}

/// Of everybody who trains and holds some back.
std::map<ClientId, uint64_t> BufferedTraining::held_out_examples() const {
  std::map<ClientId, uint64_t> examples;
  for (const auto& [client, member] : messenger_.roster().members()) {
    // Without a connection: not back yet since this aggregator was started.
    const bool trains = member.present && member.connection != ConnectionId{};
    if (trains && member.held_out_examples > 0) examples[client] = member.held_out_examples;
  }
  return examples;
}

void BufferedTraining::begin_evaluation(std::map<ClientId, uint64_t> examples) {
  evaluation_.emplace(
      options_, messenger_, model_, nullptr, now_,
      EvaluationRequest{.round = ++sequence_, .examples = std::move(examples), .weights = *weights_});
  // What stays on a device is part of what it evaluates, and how far it has come is chance: where a run can
  // be repeated to the bit, it finishes what it trains.
  const bool finishes = options_.update_order == UpdateOrder::kPlanned && model_.device.keeps_something();
  for (auto entry = tasks_.begin(); entry != tasks_.end();) {
    const auto& [client, task] = *entry;
    if (finishes && evaluation_->waits_for(client) && !task.part.trained) {
      evaluation_->extend_deadline(task.deadline);
      ++entry;
      continue;
    }
    messenger_.send(
        client,
        wire::Skip{.until_next_round = true, .reason = "the last merge is done, without what it trains now"},
        task.round);
    entry = tasks_.erase(entry);
  }
  for (const ClientId& client : evaluation_->progress().outstanding()) {
    if (!tasks_.contains(client)) evaluation_->ask(client);
  }
}

/// Whether the run waits for somebody who is to evaluate.
bool BufferedTraining::awaits_evaluation() const {
  return clock_.is_paused() && evaluation_->progress().waits_for_any(messenger_.roster().awaited());
}

bool BufferedTraining::waits_for_training() const {
  return options_.stragglers == StragglerRule::kWait && !tasks_.empty();
}

void BufferedTraining::handle_evaluated(const ClientId& client, const wire::Message& message) {
  if (!evaluation_ || !evaluation_->is_of(message.key)) return;
  evaluation_->receive(client, message);
  advance_evaluation();
}

void BufferedTraining::expire_evaluation(TimePoint as_of) {
  if (waits_for_training() || as_of < evaluation_->deadline()) return;
  evaluation_->expire();
  advance_evaluation();
}

void BufferedTraining::advance_evaluation() {
  if (!evaluation_->complete()) return;
  tasks_.clear();
  figures_.eval_loss = evaluation_->progress().loss();
  figures_.eval_accuracy = evaluation_->progress().accuracy();
  keep([&] { complete_merge(); });
}

void BufferedTraining::complete_merge() {
  ++figures_.completed_rounds;
  report_merge();
  if (figures_.completed_rounds >= options_.plan.rounds) {
    fail_unless(messenger_, evaluation_ ? divergence_.check_evaluation(*evaluation_)
                                        : divergence_.check_evaluation(figures_.eval_loss));
  }
  evaluation_.reset();
  strategy_->begin(*weights_);
  messenger_.begin_round(figures_.completed_rounds + 1);
}

void BufferedTraining::report_merge() {
  RoundReport report;
  report.clients = std::exchange(buffered_, {});
  report.record = sum_of(report.clients);
  RoundRecord& record = report.record;
  record.round = figures_.completed_rounds;
  record.clients = static_cast<int>(report.clients.size());
  record.eval_loss = figures_.eval_loss;
  record.eval_accuracy = figures_.eval_accuracy;
  const TimePoint now = now_();
  record.seconds = seconds_between(std::exchange(merge_started_, now), now);
  record.bytes_up = messenger_.bytes_up() - std::exchange(bytes_up_before_, messenger_.bytes_up());
  record.bytes_down = messenger_.bytes_down() - std::exchange(bytes_down_before_, messenger_.bytes_down());
  if (evaluation_) add_evaluations(report.clients, evaluation_->progress().results());
  for (ClientRecord& client : report.clients) client.round = record.round;
  figures_.training_seconds += record.seconds;
  messenger_.observe(messenger_.observer().on_round(report));
}

}  // namespace tandem::aggregator
