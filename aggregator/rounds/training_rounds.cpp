#include "tandem/aggregator/rounds/training_rounds.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "tandem/aggregator/evaluation/merged_evaluation.h"
#include "tandem/aggregator/rounds/round_figures.h"
#include "tandem/core/base/random.h"

namespace tandem::aggregator {
TrainingRounds::TrainingRounds(const SessionOptions& options, Messenger& messenger, TrainedModel& model,
                               std::unique_ptr<Strategy> strategy, const Dataset* eval_data,
                               std::function<TimePoint()> now, std::function<void()> checkpoint)
    : options_(options),
      messenger_(messenger),
      model_(model),
      strategy_(std::move(strategy)),
      eval_data_(eval_data),
      now_(std::move(now)),
      clock_(now_),
      checkpoint_(std::move(checkpoint)),
      planner_(planner_options(options, model.minimum_batch)),
      schedules_(options),
      divergence_(options),
      align_(options, messenger, model) {
  strategy_->set_population(options.clients);
}

TrainingRounds::~TrainingRounds() = default;

// ---------------------------------------------------------------------------------------------------------
// The beginning of a round.

std::vector<ClientId> TrainingRounds::choose_participants(const std::vector<ClientId>& present) const {
  const auto wanted = static_cast<size_t>(options_.clients_per_round);
  if (wanted == 0 || wanted >= present.size()) return present;
  // A round that lost everybody is tried again with others, so that one client alone cannot end the run.
  std::vector<ClientId> candidates = present;
  std::erase_if(candidates, [&](const ClientId& client) { return divergence_.knows(client); });
  if (candidates.size() < wanted) candidates = present;
  const uint64_t seed = derive_seed(options_.plan.seed, RandomPurpose::kSample,
                                    {ordinal(), static_cast<uint64_t>(abandoned_in_a_row_)});
  std::vector<int64_t> order = random_permutation(static_cast<int64_t>(candidates.size()), seed);
  order.resize(wanted);
  std::sort(order.begin(), order.end());
  std::vector<ClientId> chosen;
  for (const int64_t index : order) chosen.push_back(candidates[static_cast<size_t>(index)]);
  return chosen;
}

std::map<ClientId, RoundPlanner::ClientData> TrainingRounds::data_of(
    const std::vector<ClientId>& clients) const {
  std::map<ClientId, RoundPlanner::ClientData> data;
  for (const ClientId& client : clients) {
    const Member& member = *messenger_.roster().find(client);
    data[client] = {.examples = member.data.num_examples, .position = member.position};
  }
  return data;
}

void TrainingRounds::make_tails() {
  if (!model_.tail) return;
  const TrainingPlan& plan_sent = options_.plan;
  TailTrainerOptions tail{.optimizer = {.optimizer = plan_sent.optimizer, .lr_schedule = schedules_.tail()},
                          .compute = options_.compute,
                          .loss_limit = options_.loss_limit,
                          .gradients_go_back = plan_sent.objective == EdgeObjective::kEndToEnd};
  if (plan_sent.algorithm == Algorithm::kSplitFedV1 || !model_.partitions.equal()) {
    // Only what is merged can drift apart.
    tail.optimizer.drift = {.proximal_mu = plan_sent.proximal_mu,
                            .control_variates = plan_sent.control_variates};
  }
  tails_.emplace(*model_.tail, model_.partitions, tail, plan_sent.algorithm, plan_sent.batch_norm);
}

void TrainingRounds::begin(const std::vector<ClientId>& present) {
  const std::vector<ClientId> participants = choose_participants(present);
  RoundPlan plan = planner_.plan(data_of(participants), ordinal());
  if (plan.steps() > kMaxStepsOfRound) return messenger_.fail(too_many_steps());
  if (!schedules_.known()) {
    schedules_.fix(plan, data_of(present), planner_);
    make_tails();
  }
  open_round(std::move(plan));
  if (auto taken = take_merged_weights(participants); !taken) return messenger_.fail(taken.error());
  // A device may be far into the round when the aggregator dies: the round must be known by then.
  keep(options_.plan.checkpoint_steps > 0, [this] { start_participants(); });
  advance();
}

void TrainingRounds::open_round(RoundPlan plan) {
  messenger_.begin_round(ordinal());
  state_ = State::kTraining;
  round_.emplace(RoundId{++sequence_}, std::move(plan));
  start_ = {.time = now_(), .bytes_up = messenger_.bytes_up(), .bytes_down = messenger_.bytes_down()};
  end_now_ = false;
  merged_clients_ = 0;
  late_fronts_.clear();
  equip_round(0);
}

/// What everybody begins with.
Result<void> TrainingRounds::take_merged_weights(const std::vector<ClientId>& participants) {
  sent_weights_ = cpu_snapshot(model_.device.exchanged());
  const NamedTensors control = strategy_->control();
  sent_control_ = named_like(sent_weights_, control);
  if (!tails_) return {};
  return tails_->begin_round(participants, named_like(tails_->exchanged(), control));
}

void TrainingRounds::start_participants() {
  for (auto& [client, part] : round_->participants()) {
    Member& member = *messenger_.roster().find(client);
    part.first_example = member.position;
    part.bytes_up_before = member.bytes_up;
    part.bytes_down_before = member.bytes_down;
    member.position += part.planned_examples();
    member.took_part = true;
    if (!relay_) send_begin_round(client);
  }
  if (relay_) {
    relay_->begin();
    begin_turn();
  }
}

/// Makes a change; where it is kept, devices hear of it only afterwards: none is ever ahead of what this side
/// would go on from.
void TrainingRounds::keep(bool is_kept, const std::function<void()>& change) {
  if (is_kept) messenger_.hold();
  change();
  if (!is_kept) return;
  checkpoint_();
  messenger_.release();
}

/// Of a round that begins, or goes on after a restart with that turn of relay.
void TrainingRounds::equip_round(size_t turn) {
  if (options_.plan.algorithm == Algorithm::kRelay) relay_.emplace(*round_, turn);
  steps_.emplace(options_, messenger_, model_, tails_ ? &*tails_ : nullptr, *round_, figures_,
                 align_.ends(ordinal()));
  deadlines_.emplace(options_, clock_, messenger_.roster(), *round_, relay_ ? &*relay_ : nullptr);
}

void TrainingRounds::send_begin_round(const ClientId& client) {
  const Participant& part = round_->participants().at(client);
  messenger_.send(client,
                  wire::BeginRound{.ordinal = ordinal(),
                                   .first_example = part.first_example,
                                   .batch_sizes = part.batch_sizes,
                                   .previous_loss = value_or_nan(figures_.eval_loss),
                                   .previous_accuracy = value_or_nan(figures_.eval_accuracy),
                                   .lr_schedule = schedules_.device(),
                                   .weights = model_.held_by(model_.partitions.of(client), sent_weights_),
                                   .control = sent_control_},
                  round_->id().value);
}

// ---------------------------------------------------------------------------------------------------------
// Messages in.

bool TrainingRounds::receive(const ClientId& client, wire::Message message) {
  if (std::holds_alternative<wire::Activations>(message.body)) {
    handle_activations(client, message);
  } else if (std::holds_alternative<wire::OutputGradients>(message.body)) {
    handle_output_gradients(client, message);
  } else if (const auto* trained = std::get_if<wire::Trained>(&message.body)) {
    handle_trained(client, *trained, message.key.round);
  } else if (std::holds_alternative<wire::WeightUpdate>(message.body)) {
    handle_weight_update(client, std::move(message));
  } else if (std::holds_alternative<wire::Evaluated>(message.body)) {
    if (evaluation_ && evaluation_->is_of(message.key)) handle_evaluation(client, message);
  } else {
    return false;
  }
  return true;
}

void TrainingRounds::handle_activations(const ClientId& client, const wire::Message& message) {
  if (evaluation_ && evaluation_->is_of(message.key)) return handle_evaluation(client, message);
  if (messenger_.answer_repeat(client, message)) return;
  const bool out = !is_in_round(client, message.key);
  if (out || state_ != State::kTraining) {
    // Not kept as a reply: a stranger to the round could push out the replies of its own steps.
    return messenger_.send(
        client,
        wire::Skip{.until_next_round = out,
                   .reason = out ? "this client takes no part in the round any more" : kStepWentOn},
        message.key.round, message.key.step);
  }
  if (steps_->take_activations(client, message)) advance(round_->lane_of(client));
}

void TrainingRounds::handle_output_gradients(const ClientId& client, const wire::Message& message) {
  if (messenger_.answer_repeat(client, message)) return;
  if (state_ != State::kTraining || !is_in_round(client, message.key)) {
    return messenger_.send(client, wire::Skip{.until_next_round = true, .reason = kStepWentOn},
                           message.key.round, message.key.step);
  }
  if (steps_->take_output_gradients(client, message)) advance(round_->lane_of(client));
}

bool TrainingRounds::is_in_round(const ClientId& client, const wire::MessageKey& key) {
  return round_ && key.round == round_->id().value && round_->active(client) != nullptr;
}

void TrainingRounds::handle_trained(const ClientId& client, const wire::Trained& trained, uint32_t round) {
  if (!round_ || round != round_->id().value) return;
  // Cut short by the round's deadline, devices say how far they came while the fronts are collected.
  if (state_ != State::kTraining && !(state_ == State::kMerging && end_now_)) return;
  Participant* part = round_->active(client);
  if (part == nullptr || part->trained || !options_.plan.trains_locally()) return;
  auto checked = check_trained(trained.figures, part->planned_examples());
  if (checked) checked = divergence_.check_loss(trained.figures);
  if (!checked) {
    const std::string& reason = checked.error().message;
    part->count_beyond_limits(checked.error());
    messenger_.offence(client, "excluded", reason);
    round_->deactivate(client);
    messenger_.send(client, wire::Skip{.until_next_round = true, .reason = reason}, round);
    if (merge_) merge_->give_up(client);
    return state_ == State::kTraining ? advance() : advance_merge();
  }
  round_->count_trained(client, trained.figures);
  figures_.applied_examples += static_cast<int64_t>(trained.figures.examples);
  report_progress();
  if (state_ == State::kTraining) advance();
}

void TrainingRounds::handle_weight_update(const ClientId& client, wire::Message message) {
  // A repeat after the merge needs no answer: BeginRound or Finish is on its way.
  if (!round_ || message.key.round != round_->id().value) return;
  auto& body = std::get<wire::WeightUpdate>(message.body);
  ClientUpdate update{.client = client,
                      .weights = std::move(body.weights),
                      .examples = body.examples,
                      .steps = body.steps,
                      .control_change = std::move(body.control_change)};
  if (state_ == State::kTraining && relay_) {
    if (is_paused()) return;
    if (relay_->awaits_front_of(client)) end_turn(&update);
    return advance();
  }
  if (state_ != State::kMerging || !merge_->waits_for(client)) return;
  merge_->receive(std::move(update));
  advance_merge();
}

void TrainingRounds::join(const ClientId& client) {
  leave(client);  // it takes part from the next round on
}

void TrainingRounds::leave(const ClientId& client) {
  if (round_) round_->deactivate(client);
  if (evaluation_) evaluation_->give_up(client);
  switch (state_) {
    case State::kIdle:
      return;
    case State::kTraining:
      if (relay_ && relay_->awaits_front_of(client)) end_turn(nullptr);
      return advance();
    case State::kMerging:
      merge_->give_up(client);
      return advance_merge();
    case State::kEvaluating:
      return advance_evaluation();
  }
}

void TrainingRounds::resume(const ClientId& client, const wire::MessageKey& progress, bool went_back) {
  if (evaluation_ && evaluation_->waits_for(client)) {
    // While it was away time may have stood still.
    if (clock_.is_paused()) evaluation_->restart_deadline();
    // Where it stands in its own evaluation only it knows: what got lost it sends again.
    if (!went_back && progress.round == evaluation_->progress().round()) return;
    return evaluation_->ask_again(client, went_back);
  }
  if (!round_ || round_->active(client) == nullptr) return;
  if (!has_turn(client) || state_ == State::kEvaluating) return;
  if (!messenger_.is_of_this_run(progress) || progress.round != round_->id().value) send_begin_round(client);
  if ((merge_ && merge_->waits_for(client)) || (relay_ && relay_->awaits_front())) {
    messenger_.send(client, wire::EndRound{.now = end_now_}, round_->id().value);
  }
}

std::vector<wire::RequestId> TrainingRounds::held_requests(const ClientId& client) const {
  if (!round_ || !round_->participants().contains(client)) return {};
  const uint32_t round = round_->id().value;
  std::vector<wire::RequestId> held = steps_->held_requests(client);
  if (evaluation_ && !evaluation_->waits_for(client)) {
    held.push_back({wire::MessageType::kEvaluated, evaluation_->progress().round()});
  }
  if (std::as_const(*round_).participants().at(client).trained) {
    held.push_back({wire::MessageType::kTrained, round});
  }
  const bool awaits_front =
      (merge_ && merge_->waits_for(client)) || (relay_ && relay_->awaits_front_of(client));
  if (!awaits_front) held.push_back({wire::MessageType::kWeightUpdate, round});
  return held;
}

// ---------------------------------------------------------------------------------------------------------
// Time.

/// An evaluation changes nothing: it waits only for those that may come back to it.
bool TrainingRounds::is_paused() const {
  if (!clock_.is_paused() || state_ == State::kIdle) return false;
  return state_ != State::kEvaluating || evaluation_->progress().waits_for_any(messenger_.roster().awaited());
}

void TrainingRounds::go_on() {
  const auto paused = clock_.go_on();
  if (deadlines_) deadlines_->move(paused);
  if (evaluation_) evaluation_->restart_deadline();
  if (state_ == State::kMerging) return advance_merge();
  if (state_ != State::kTraining) return;
  // Its front may have come meanwhile.
  if (relay_ && relay_->awaits_front()) {
    messenger_.send(relay_->holder(), wire::EndRound{.now = end_now_}, round_->id().value);
  }
  advance();
}

std::optional<TimePoint> TrainingRounds::next_deadline() const {
  if (state_ == State::kIdle || is_paused()) return std::nullopt;
  if (state_ == State::kEvaluating) return evaluation_->deadline();
  return state_ == State::kTraining ? deadlines_->next() : deadlines_->fronts();
}

void TrainingRounds::tick(TimePoint as_of) {
  if (state_ == State::kIdle || is_paused()) return;
  if (state_ == State::kTraining) return expire_steps(as_of);
  if (state_ == State::kMerging && deadlines_->fronts_are_late(as_of)) return expire_fronts();
  if (state_ == State::kEvaluating && as_of >= evaluation_->deadline()) {
    evaluation_->expire();
    advance_evaluation();
  }
}

void TrainingRounds::expire_fronts() {
  for (const ClientId& client : merge_->outstanding()) {
    front_is_late(client);
    merge_->give_up(client);
  }
  advance_merge();
}

void TrainingRounds::front_is_late(const ClientId& client) {
  late_fronts_.insert(client);
  messenger_.event("missed-merge", client.name, "its front did not come within the update deadline");
}

void TrainingRounds::expire_steps(TimePoint as_of) {
  if (deadlines_->round_is_up(as_of)) return expire_round();
  if (relay_ && relay_->awaits_front() && deadlines_->fronts_are_late(as_of)) {
    front_is_late(relay_->holder());
    end_turn(nullptr);
  }
  for (const size_t lane : deadlines_->late_lanes(as_of)) {
    steps_->expire(lane);
    deadlines_->restart_lane(lane);
  }
  expire_local_training(as_of);
  advance();
}

void TrainingRounds::expire_local_training(TimePoint as_of) {
  for (const ClientId& client : deadlines_->late_trainers(as_of)) {
    const Participant& part = round_->participants().at(client);
    const std::string reason = "it did not finish its " + std::to_string(part.planned_steps()) +
                               " steps within as many step deadlines of " +
                               std::to_string(options_.step_deadline.count()) + " ms";
    messenger_.event("excluded", client.name, reason);
    round_->deactivate(client);
    messenger_.send(client, wire::Skip{.until_next_round = true, .reason = reason}, round_->id().value);
  }
}

void TrainingRounds::expire_round() {
  messenger_.event("round-deadline", "",
                   "the round's " + std::to_string(options_.round_deadline.count()) +
                       " ms are up; every client sends its front as it stands");
  deadlines_->end_round();
  end_now_ = true;
  if (!relay_) return begin_merge(true);
  // Whoever has the front brings it back; nobody gets it after that.
  for (const ClientId& client : relay_->later()) round_->deactivate(client);
  ask_for_front();
}

}  // namespace tandem::aggregator
