#include "tandem/aggregator/rounds/training_rounds.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "tandem/aggregator/evaluation/merged_evaluation.h"
#include "tandem/aggregator/rounds/round_figures.h"
#include "tandem/core/base/random.h"

namespace tandem::aggregator {
namespace {

constexpr int kMaxAbandonedInARow = 3;

}  // namespace

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
  if (plan_sent.algorithm == Algorithm::kSplitFedV1) {
    // Only what is merged can drift apart.
    tail.optimizer.drift = {.proximal_mu = plan_sent.proximal_mu,
                            .control_variates = plan_sent.control_variates};
  }
  tails_.emplace(*model_.tail, tail, plan_sent.algorithm, plan_sent.batch_norm);
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
                                   .weights = sent_weights_,
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
  TrafficModel traffic = traffic_model(model_, options_.plan);
  if (sent_control_.empty()) traffic.control_down_bytes = 0;  // the first round's is zero and not sent
  RoundReport report =
      round_report(*round_, messenger_.roster(), traffic,
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
             "--step-deadline"});
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
