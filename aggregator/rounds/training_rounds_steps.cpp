// The steps of a round, in relay turn by turn.
#include <algorithm>

#include "tandem/aggregator/rounds/round_figures.h"
#include "tandem/aggregator/rounds/training_rounds.h"

namespace tandem::aggregator {

// ---------------------------------------------------------------------------------------------------------
// Steps.

void TrainingRounds::advance(std::optional<size_t> only) {
  bool moved = true;
  while (moved && state_ == State::kTraining && !messenger_.failure()) {
    const bool lost_all = round_->active_count() == 0;
    // In relay the front of an earlier turn may have come back.
    if (lost_all && merged_clients_ == 0) return abandon();
    if (is_paused()) return;
    if (lost_all) return finish_merge();
    moved = false;
    const size_t end = only ? *only + 1 : round_->lanes();
    for (size_t lane = only.value_or(0); lane < end; ++lane) moved = advance_lane(lane) || moved;
    if (relay_) {
      advance_relay();
      if (relay_->over()) return finish_merge();
    } else if (training_is_over()) {
      return begin_merge(false);
    }
  }
}

bool TrainingRounds::training_is_over() const {
  if (!round_->lanes_done()) return false;
  if (!options_.plan.trains_locally()) return true;
  const auto& parts = round_->participants();
  return std::all_of(parts.begin(), parts.end(),
                     [](const auto& entry) { return !entry.second.active || entry.second.trained; });
}

bool TrainingRounds::advance_lane(size_t lane) {
  if (!steps_->ready(lane)) return false;
  if (steps_->open(lane)) {
    deadlines_->restart_lane(lane);
    return true;
  }
  const uint32_t every = options_.plan.checkpoint_steps;
  const bool is_kept = every > 0 && (round_->applied(lane) + 1) % every == 0;
  bool learned = false;
  keep(is_kept, [&] {
    learned = steps_->finish(lane);
    deadlines_->restart_lane(lane);
  });
  if (learned) report_progress();
  return true;
}

void TrainingRounds::report_progress() {
  StepReport report = step_report(*round_);
  report.round = ordinal();
  report.rounds = options_.plan.rounds;
  report.bytes_up = messenger_.bytes_up();
  report.bytes_down = messenger_.bytes_down();
  messenger_.observer().on_step(report);
}

// ---------------------------------------------------------------------------------------------------------
// Relay: the front passes from device to device.

/// Whoever has the front begins; nobody when the turns are over.
void TrainingRounds::begin_turn() {
  if (relay_->over()) return;
  deadlines_->begin_turn();
  send_begin_round(relay_->holder());
}

void TrainingRounds::advance_relay() {
  while (!relay_->over()) {
    const ClientId& client = relay_->holder();
    const Participant* part = round_->active(client);
    if (part == nullptr) {
      end_turn(nullptr);
      continue;
    }
    const bool done = round_->answered(client) && (!options_.plan.trains_locally() || part->trained);
    if (done && !relay_->awaits_front()) ask_for_front();
    return;
  }
}

void TrainingRounds::ask_for_front() {
  relay_->ask_for_front();
  deadlines_->ask_for_fronts();
  messenger_.send(relay_->holder(), wire::EndRound{.now = end_now_}, round_->id().value);
}

void TrainingRounds::end_turn(const ClientUpdate* update) {
  if (update != nullptr) {
    const auto loaded = model_.device.load(update->weights);
    divergence_.note(relay_->holder(), loaded);
    if (loaded) {
      ++merged_clients_;
      sent_weights_ = cpu_snapshot(model_.device.exchanged());
    } else {
      messenger_.offence(relay_->holder(), "bad-front",
                         loaded.error().message + "; the front before it goes on");
    }
  }
  relay_->pass_on();
  begin_turn();
}

/// Whether the client has the front to train with, as all have but in relay.
bool TrainingRounds::has_turn(const ClientId& client) const {
  return !relay_ || relay_->is_held_by(client);
}

}  // namespace tandem::aggregator
