#include "tandem/aggregator/rounds/buffered_training.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "tandem/aggregator/evaluation/merged_evaluation.h"
#include "tandem/aggregator/rounds/round_figures.h"

namespace tandem::aggregator {
namespace {

constexpr int kMaxFailuresInARow = 100;
/// To each client's last record; one that evaluated without an update in the merge gets a record for it.

}  // namespace

BufferedTraining::BufferedTraining(const SessionOptions& options, Messenger& messenger, TrainedModel& model,
                                   std::unique_ptr<Strategy> strategy, int buffer, const Dataset* eval_data,
                                   std::function<TimePoint()> now, std::function<void()> checkpoint)
    : options_(options),
      messenger_(messenger),
      model_(model),
      strategy_(std::move(strategy)),
      buffer_(buffer),
      eval_data_(eval_data),
      now_(std::move(now)),
      clock_(now_),
      checkpoint_(std::move(checkpoint)),
      planner_(planner_options(options, model.minimum_batch)),
      lr_schedule_(options.plan.lr_schedule),
      divergence_(options) {}

void BufferedTraining::begin(const std::vector<ClientId>& present) {
  begun_ = true;
  merge_started_ = now_();
  messenger_.begin_round(1);
  weights_ = std::make_shared<const NamedTensors>(cpu_snapshot(model_.device.exchanged()));
  strategy_->begin(*weights_);
  if (options_.schedule_spans_run) span_schedule(present);
  keep([&] {
    for (const ClientId& client : present) dispatch(client, 0);
  });
}

/// With --checkpoint-steps devices hear of what changes only once it is kept: none is ever ahead of what this
/// side would go on from. Without, merges are kept.
void BufferedTraining::keep(const std::function<void()>& change) {
  const uint32_t merges = figures_.completed_rounds;
  messenger_.hold();
  change();
  const bool is_due = options_.plan.checkpoint_steps > 0 || figures_.completed_rounds > merges;
  if (is_due && settled()) checkpoint_();
  messenger_.release();
}

void BufferedTraining::join(const ClientId& client) {
  if (idle()) return;
  if (evaluation_) return leave(client);  // there is nothing left to train, the final weights will come
  tasks_.erase(client);
  // It starts when the updates that are taken now were finished.
  uint64_t from = 0;
  for (const auto& [other, task] : tasks_) from = std::max(from, task.finish);
  keep([&] { dispatch(client, from); });
  take_updates();
}

void BufferedTraining::leave(const ClientId& client) {
  if (evaluation_) {
    tasks_.erase(client);
    evaluation_->give_up(client);
    return advance_evaluation();
  }
  if (tasks_.erase(client) == 0) return;
  Member& member = *messenger_.roster().find(client);
  if (idle()) return;
  if (!member.said_bye) ++member.lost_rounds;
  take_updates();
}

void BufferedTraining::go_on() {
  const auto paused = clock_.go_on();
  std::vector<ClientId> came;
  for (auto& [client, task] : tasks_) {
    task.deadline += paused;
    if (task.update) came.push_back(client);
  }
  if (evaluation_) {
    evaluation_->restart_deadline();
    for (const auto& [client, task] : tasks_) evaluation_->extend_deadline(task.deadline);
    return;
  }
  if (options_.update_order == UpdateOrder::kPlanned) return take_updates();
  for (const ClientId& client : came) {
    if (idle() || evaluation_ || messenger_.failure()) return;
    take(client);
  }
}

/// The period of a schedule that spans the run: the steps that each device is expected to make until so many
/// updates are merged as the run has. Where all of them are equally fast they all make equally many, since
/// one with fewer steps in an update sends more updates: updates / sum_k (1 / steps_k).
void BufferedTraining::span_schedule(const std::vector<ClientId>& present) {
  std::vector<double> steps;
  for (const ClientId& client : present) {
    const int64_t examples = messenger_.roster().find(client)->data.num_examples;
    steps.push_back(std::max(1u, planner_.own_steps({.examples = examples})));
  }
  const double most = *std::max_element(steps.begin(), steps.end());
  double updates_in_that_time = 0;  // of all, while the one with most steps makes one
  for (const double own : steps) updates_in_that_time += most / own;
  const double updates = static_cast<double>(options_.plan.rounds) * buffer_;
  lr_schedule_.period_steps =
      std::max(1.0, updates * most / updates_in_that_time - static_cast<double>(lr_schedule_.warmup_steps));
}

void BufferedTraining::dispatch(const ClientId& client, uint64_t from) {
  Member& member = *messenger_.roster().find(client);
  RoundPlan plan = planner_.plan(
      {{client, {.examples = member.data.num_examples, .position = member.position}}}, sequence_ + 1);
  if (plan.steps() > kMaxStepsOfRound) return messenger_.fail(too_many_steps());
  Task task{.round = ++sequence_, .version = figures_.completed_rounds, .base = weights_};
  task.part.batch_sizes = plan.batch_sizes.at(client);
  task.part.first_example = member.position;
  task.part.bytes_up_before = member.bytes_up;
  task.part.bytes_down_before = member.bytes_down;
  task.deadline = deadline_of(task);
  task.allowance = allowance_of(client);
  task.finish = from + std::max(1u, task.part.planned_steps());
  member.position += task.part.planned_examples();
  member.took_part = true;
  send_begin_round(client, task);
  tasks_.insert_or_assign(client, std::move(task));
}

TimePoint BufferedTraining::deadline_of(const Task& task) const {
  return clock_.now() + options_.step_deadline * int64_t{task.part.planned_steps()} +
         options_.update_deadline;
}

/// The deadline is made of both, and holds where the user gave one of them.
TransferAllowance BufferedTraining::allowance_of(const ClientId& client) const {
  return {messenger_.roster(), {client}, std::min(options_.step_allowance, options_.update_allowance)};
}

void BufferedTraining::send_begin_round(const ClientId& client, const Task& task) {
  messenger_.send(client,
                  wire::BeginRound{.ordinal = task.version + 1,
                                   .first_example = task.part.first_example,
                                   .batch_sizes = task.part.batch_sizes,
                                   .previous_loss = value_or_nan(figures_.eval_loss),
                                   .previous_accuracy = value_or_nan(figures_.eval_accuracy),
                                   .lr_schedule = lr_schedule_,
                                   .weights = *task.base},
                  task.round);
}

// ---------------------------------------------------------------------------------------------------------
// Messages in.

bool BufferedTraining::receive(const ClientId& client, wire::Message message) {
  if (std::holds_alternative<wire::Evaluated>(message.body)) {
    handle_evaluated(client, message);
    return true;
  }
  const bool known = std::holds_alternative<wire::Trained>(message.body) ||
                     std::holds_alternative<wire::WeightUpdate>(message.body);
  const auto found = tasks_.find(client);
  if (!known || idle() || found == tasks_.end() || message.key.round != found->second.round) return known;
  if (const auto* trained = std::get_if<wire::Trained>(&message.body)) {
    handle_trained(client, found->second, *trained);
  } else {
    handle_weight_update(client, found->second, std::move(std::get<wire::WeightUpdate>(message.body)));
  }
  return true;
}

void BufferedTraining::handle_trained(const ClientId& client, Task& task, const wire::Trained& trained) {
  if (task.part.trained) return;
  if (evaluation_) {  // too late for a merge, and now it can evaluate
    tasks_.erase(client);
    evaluation_->extend_deadline(now_() + options_.update_deadline);
    return evaluation_->ask(client);
  }
  auto checked = check_trained(trained.figures, task.part.planned_examples());
  if (checked) checked = divergence_.check_loss(trained.figures);
  if (!checked) {
    messenger_.count_refused();
    if (checked.error().code == ErrorCode::kNonFinite) divergence_.useless(client, checked.error().message);
    if (ends_as_diverged()) return;
    messenger_.count_offence(client, checked.error().message);
    return start_again(client, checked.error().message);
  }
  task.part.record_trained(trained.figures);
  figures_.applied_examples += static_cast<int64_t>(trained.figures.examples);
  messenger_.send(client, wire::EndRound{}, task.round);
}

/// What the client did last cannot be used: it begins anew from the newest weights.
void BufferedTraining::start_again(const ClientId& client, const std::string& reason) {
  const auto node = tasks_.extract(client);
  messenger_.event("excluded", client.name, reason + "; it starts again");
  ++messenger_.roster().find(client)->lost_rounds;
  messenger_.send(client, wire::Skip{.until_next_round = true, .reason = reason}, node.mapped().round);
  if (++failed_in_a_row_ > kMaxFailuresInARow) {
    return messenger_.fail({ErrorCode::kNonFinite,
                            std::to_string(kMaxFailuresInARow) +
                                " trainings in a row gave nothing: they diverged or took too long; see the "
                                "excluded clients in metrics.jsonl, lower --learning-rate or raise "
                                "the deadline of --stragglers"});
  }
  keep([&] { dispatch(client, node.mapped().finish); });
  take_updates();
}

/// Fails the run where the last trainings of more than half of the clients were of no use: of those that are
/// there, and of those that had to leave because theirs were.
bool BufferedTraining::ends_as_diverged() {
  const std::vector<ClientId> present = messenger_.roster().present();
  const auto others = std::count_if(present.begin(), present.end(),
                                    [&](const ClientId& client) { return !divergence_.knows(client); });
  const auto verdict = divergence_.verdict(static_cast<size_t>(others), present.size());
  if (verdict) fail_unless(messenger_, *verdict);
  return verdict.has_value();
}

void BufferedTraining::tick(TimePoint as_of) {
  if (evaluation_ && !awaits_evaluation()) return expire_evaluation(as_of);
  if (idle() || clock_.is_paused() || options_.stragglers == StragglerRule::kWait) return;
  std::vector<ClientId> late;
  for (const auto& [client, task] : tasks_) {
    if (!task.update && as_of >= task.late_at()) late.push_back(client);
  }
  for (const ClientId& client : late) {
    // What came of the one before may have been the last merge.
    if (idle() || evaluation_ || messenger_.failure()) return;
    start_again(client, "no update came within the step deadlines of its steps and the update deadline");
  }
}

std::optional<TimePoint> BufferedTraining::next_deadline() const {
  std::optional<TimePoint> next;
  if (evaluation_ && awaits_evaluation()) return next;
  if (evaluation_ && !waits_for_training()) return evaluation_->deadline();
  if (idle() || clock_.is_paused() || options_.stragglers == StragglerRule::kWait) return next;
  for (const auto& [client, task] : tasks_) {
    if (!task.update) next = next ? std::min(*next, task.late_at()) : task.late_at();
  }
  return next;
}

void BufferedTraining::handle_weight_update(const ClientId& client, Task& task, wire::WeightUpdate update) {
  if (!task.part.trained || task.update) return;
  task.update = ClientUpdate{.client = client,
                             .weights = std::move(update.weights),
                             .examples = std::min(update.examples, task.part.figures.examples),
                             .steps = std::clamp<uint32_t>(update.steps, 1, std::max(1u, task.part.steps)),
                             .base = *task.base};
  if (clock_.is_paused()) return;
  if (options_.update_order == UpdateOrder::kArrival) {
    take(client);
  } else {
    take_updates();
  }
}

void BufferedTraining::resume(const ClientId& client, const wire::MessageKey& progress, bool went_back) {
  const auto found = tasks_.find(client);
  if (found == tasks_.end()) {
    if (!evaluation_) return join(client);
    if (!evaluation_->waits_for(client)) return;
    // While it was away time may have stood still.
    if (clock_.is_paused()) evaluation_->extend_deadline(now_() + options_.update_deadline);
    if (!went_back && progress.round == evaluation_->progress().round()) return;
    return evaluation_->ask(client);
  }
  const Task& task = found->second;
  if (task.update) return;
  if (!messenger_.is_of_this_run(progress) || progress.round != task.round) {
    send_begin_round(client, task);
  } else if (task.part.trained) {
    messenger_.send(client, wire::EndRound{}, task.round);
  }
}

std::vector<wire::RequestId> BufferedTraining::held_requests(const ClientId& client) const {
  std::vector<wire::RequestId> held;
  if (evaluation_ && !evaluation_->waits_for(client)) {
    held.push_back({wire::MessageType::kEvaluated, evaluation_->progress().round()});
  }
  const auto task = tasks_.find(client);
  if (task == tasks_.end()) return held;
  if (task->second.part.trained) held.push_back({wire::MessageType::kTrained, task->second.round});
  if (task->second.update) held.push_back({wire::MessageType::kWeightUpdate, task->second.round});
  return held;
}

}  // namespace tandem::aggregator
