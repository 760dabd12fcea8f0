// Deadlines of the session, and the end of a run.
#include <algorithm>
#include <utility>

#include "tandem/aggregator/rounds/round_figures.h"
#include "tandem/aggregator/session/aggregator_session.h"

namespace tandem::aggregator {

void AggregatorSession::tick(TimePoint as_of) {
  if (done()) return;
  if (as_of >= next_liveness_check_) {
    next_liveness_check_ = as_of + kLivenessCheck;
    drop_silent_clients(as_of);
  }
  if (phase_ == Phase::kRound) training_->tick(as_of);
  if (phase_ == Phase::kFinishing && as_of >= finish_deadline()) return end();
  follow_up();
}

void AggregatorSession::heard(const ClientId& client, TimePoint at, TimePoint::duration transfer) {
  Member* member = messenger_.roster().find(client);
  if (done() || member == nullptr || member->paused) return;
  member->last_heard = std::max(member->last_heard, at);
  member->transfer += transfer;
}

std::optional<TimePoint> AggregatorSession::next_deadline() const {
  if (done() || messenger_.roster().present_count() == 0) return std::nullopt;
  if (phase_ == Phase::kFinishing) return std::min(next_liveness_check_, finish_deadline());
  const auto of_round = phase_ == Phase::kRound ? training_->next_deadline() : std::nullopt;
  return of_round ? std::min(next_liveness_check_, *of_round) : next_liveness_check_;
}

void AggregatorSession::drop_silent_clients(TimePoint as_of) {
  // All of them first: where the network is cut, they fall silent together.
  const std::vector<ClientId> silent = messenger_.roster().silent_since(as_of - options_.client_timeout);
  for (const ClientId& client : silent) {
    Member& member = *messenger_.roster().find(client);
    if (!member.present) continue;
    messenger_.roster().depart(client, true);
    member.last_heard = as_of;  // from now on it has as long again to come back
    messenger_.event("leave", client.name,
                     (member.paused ? "paused, and not back after " : "silent for ") +
                         std::to_string(options_.client_timeout.count()) + " ms");
  }
  if (training_ == nullptr) return;
  wait_or_go_on();
  if (waiting_) return;
  for (const ClientId& client : silent) {
    messenger_.roster().depart(client);
    training_->leave(client);
  }
}

void AggregatorSession::leave(const ClientId& client, const std::string& reason) {
  const Member* member = messenger_.roster().find(client);
  if (member == nullptr || (!member->present && !member->awaited)) return;
  const bool known = !member->present;  // that it is gone
  messenger_.roster().depart(client);
  if (!known) messenger_.event("leave", client.name, reason);
  if (training_ == nullptr) return;
  wait_or_go_on();
  training_->leave(client);
}

/// What is still on its way from there does not count; only a new Hello, where one is accepted, does.
void AggregatorSession::leave_for_good(const ClientId& client, const std::string& reason) {
  if (Member* member = messenger_.roster().find(client)) member->said_bye = true;
  leave(client, reason);
}

void AggregatorSession::revoke(const ClientId& client, const std::string& reason) {
  if (done()) return;
  leave_for_good(client, reason);
  follow_up();
}

void AggregatorSession::stop(const std::string& reason) {
  if (done()) return;
  if (started() && training_->settled()) keep_checkpoint();
  say_bye(dependencies_.checkpoints != nullptr && !messenger_.failure() ? wire::ByeReason::kPaused
                                                                        : wire::ByeReason::kShuttingDown,
          reason);
  end();
}

void AggregatorSession::say_bye(wire::ByeReason reason, const std::string& text) {
  for (const ClientId& client : messenger_.roster().present()) {
    messenger_.send(client, wire::Bye{reason, text}, sequence());
  }
}

void AggregatorSession::fail(Error error) {
  if (done()) return;
  failure_ = std::move(error);
  completed_ = false;
  say_bye(wire::ByeReason::kShuttingDown, failure_text(*failure_));
  end();
}

void AggregatorSession::end() {
  phase_ = Phase::kDone;
  ended_ = dependencies_.now();
}

RunSummary AggregatorSession::summary() const {
  const TrainingFigures figures = training_ ? training_->figures() : TrainingFigures{};
  const auto& members = messenger_.roster().members();
  RunSummary summary;
  summary.status = completed_ ? "completed" : failure_ ? "failed" : "interrupted";
  summary.algorithm = algorithm_name(options_.plan.algorithm);
  summary.strategy = options_.strategy;
  summary.model = options_.plan.model;
  summary.cut = options_.plan.cut;
  if (options_.cuts && !options_.cuts->equal()) summary.cuts = options_.cuts->distinct();
  summary.rounds = figures.completed_rounds;
  summary.clients = static_cast<int>(std::count_if(members.begin(), members.end(),
                                                   [](const auto& entry) { return entry.second.took_part; }));
  for (const auto& [client, member] : members) {
    if (member.lost_rounds > 0) summary.lost_rounds[client.name] = member.lost_rounds;
  }
  summary.eval_accuracy = figures.eval_accuracy;
  summary.eval_loss = figures.eval_loss;
  summary.seconds = seconds_before_ + seconds_between(run_started_, done() ? ended_ : dependencies_.now());
  summary.examples_per_second = figures.training_seconds > 0
                                    ? static_cast<double>(figures.applied_examples) / figures.training_seconds
                                    : 0;
  summary.bytes_up = messenger_.bytes_up();
  summary.bytes_down = messenger_.bytes_down();
  return summary;
}

}  // namespace tandem::aggregator
