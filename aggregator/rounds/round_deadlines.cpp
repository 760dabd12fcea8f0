#include "tandem/aggregator/rounds/round_deadlines.h"

#include <algorithm>

namespace tandem::aggregator {

RoundDeadlines::RoundDeadlines(const SessionOptions& options, const DeadlineClock& clock,
                               const Roster& roster, const Round& round, const RelayTurns* relay)
    : options_(options), clock_(clock), roster_(roster), round_(round), relay_(relay), lanes_(round.lanes()) {
  begin_turn();
  if (options_.round_deadline.count() > 0) round_end_ = clock_.now() + options_.round_deadline;
}

void RoundDeadlines::restart_lane(size_t lane) {
  // Where every so many batches one goes up, a step of the tail takes the device as many steps.
  auto patience = options_.step_deadline * int64_t{options_.plan.tail_interval};
  // Those who are late have as long as a front when nobody else is left.
  if (round_.only_laggards(lane)) patience = std::max(patience, options_.update_deadline);
  lanes_[lane] = {
      .deadline = clock_.now() + patience,
      .allowance = {roster_, round_.lane_done(lane) ? std::vector<ClientId>{} : round_.expected(lane),
                    options_.step_allowance}};
}

void RoundDeadlines::begin_turn() {
  for (size_t lane = 0; lane < lanes_.size(); ++lane) restart_lane(lane);
  trainers_started_ = clock_.now();
  for (const auto& [client, part] : round_.participants()) {
    trainer_allowances_[client] = {roster_, {client}, options_.step_allowance};
  }
}

void RoundDeadlines::ask_for_fronts() {
  fronts_ = clock_.now() + options_.update_deadline;
  std::vector<ClientId> clients;
  for (const auto& [client, part] : round_.participants()) clients.push_back(client);
  front_allowance_ = {roster_, clients, options_.update_allowance};
}

void RoundDeadlines::move(TimePoint::duration pause) {
  for (Lane& lane : lanes_) lane.deadline += pause;
  trainers_started_ += pause;
  fronts_ += pause;
  if (round_end_) *round_end_ += pause;
}

bool RoundDeadlines::is_limited(size_t lane) const {
  if (options_.stragglers == StragglerRule::kWait || round_.lane_done(lane)) return false;
  if (relay_ == nullptr) return true;
  // Not against one whose turn has not come, nor while a front is on its way.
  const std::vector<ClientId> clients = round_.expected(lane);
  return !relay_->awaits_front() && !clients.empty() && relay_->is_held_by(clients.front());
}

bool RoundDeadlines::is_limited(const ClientId& client, const Participant& part) const {
  const bool has_front = relay_ == nullptr || relay_->is_held_by(client);
  return options_.plan.trains_locally() && options_.stragglers != StragglerRule::kWait && part.active &&
         !part.trained && has_front;
}

TimePoint RoundDeadlines::deadline_of(const ClientId& client, const Participant& part) const {
  auto patience = options_.step_deadline * (int64_t{part.planned_steps()} + 1);
  if (options_.stragglers == StragglerRule::kLate) patience += options_.update_deadline;
  return trainers_started_ + patience + trainer_allowances_.at(client).so_far();
}

std::vector<size_t> RoundDeadlines::late_lanes(TimePoint as_of) const {
  std::vector<size_t> late;
  for (size_t lane = 0; lane < lanes_.size(); ++lane) {
    if (is_limited(lane) && as_of >= deadline_of(lane)) late.push_back(lane);
  }
  return late;
}

std::vector<ClientId> RoundDeadlines::late_trainers(TimePoint as_of) const {
  std::vector<ClientId> late;
  for (const auto& [client, part] : round_.participants()) {
    if (is_limited(client, part) && as_of >= deadline_of(client, part)) late.push_back(client);
  }
  return late;
}

std::optional<TimePoint> RoundDeadlines::next() const {
  std::optional<TimePoint> next = round_end_;
  const auto consider = [&](TimePoint deadline) { next = next ? std::min(*next, deadline) : deadline; };
  if (relay_ != nullptr && relay_->awaits_front()) consider(fronts());
  for (size_t lane = 0; lane < lanes_.size(); ++lane) {
    if (is_limited(lane)) consider(deadline_of(lane));
  }
  for (const auto& [client, part] : round_.participants()) {
    if (is_limited(client, part)) consider(deadline_of(client, part));
  }
  return next;
}

}  // namespace tandem::aggregator
