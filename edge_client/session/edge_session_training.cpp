// The steps of a round on the device, with the tail's gradients or on its own loss.
#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "tandem/edge_client/session/edge_session.h"

namespace tandem::edge_client {

// ---------------------------------------------------------------------------------------------------------
// A round.

void EdgeSession::receive(wire::Message message, int64_t bytes) {
  if ((done() || leaving_) && !std::holds_alternative<wire::Bye>(message.body)) return;
  bytes_down_ += bytes;
  if (!std::holds_alternative<wire::Heartbeat>(message.body)) last_heard_ = dependencies_.now();
  if (std::holds_alternative<wire::Welcome>(message.body)) return handle_welcome(message);
  if (!std::holds_alternative<wire::Heartbeat>(message.body)) heard_since_hello_ = true;
  if (const auto* refuse = std::get_if<wire::Refuse>(&message.body)) return handle_refuse(*refuse);
  if (const auto* bye = std::get_if<wire::Bye>(&message.body)) return handle_bye(*bye);
  const bool of_this_run = message.key.run_id == run_.run_id && message.key.incarnation == run_.incarnation;
  if (!of_this_run || phase_ == Phase::kConnecting) return;
  if (std::holds_alternative<wire::BeginRound>(message.body)) {
    handle_begin_round(std::move(message));
  } else if (std::holds_alternative<wire::Gradients>(message.body) ||
             std::holds_alternative<wire::Skip>(message.body)) {
    handle_answer(std::move(message));
  } else if (std::holds_alternative<wire::EndRound>(message.body)) {
    if (message.key.round == round_.number) handle_end_round(std::get<wire::EndRound>(message.body));
  } else if (std::holds_alternative<wire::Evaluate>(message.body)) {
    handle_evaluate(std::move(message));
  } else if (std::holds_alternative<wire::Outputs>(message.body) ||
             std::holds_alternative<wire::Receipt>(message.body)) {
    if (phase_ == Phase::kEvaluating && message.key.round == evaluation_.round()) {
      handle_evaluation_answer(message);
    } else if (std::holds_alternative<wire::Outputs>(message.body)) {
      handle_outputs(message);
    } else {
      handle_receipt(message);
    }
  } else if (const auto* finish = std::get_if<wire::Finish>(&message.body)) {
    handle_finish(*finish);
  }
}

Result<void> EdgeSession::build_trainer(const LrScheduleOptions& lr_schedule) {
  auto trainer = job_->build_trainer(lr_schedule, options_.compute, dependencies_.models);
  if (!trainer) return trainer.error();
  trainer_ = std::move(*trainer);
  own_state_.reset();
  lr_schedule_ = lr_schedule;
  return {};
}

Result<void> EdgeSession::unpark() {
  const NamedTensors own = std::move(*own_state_);
  if (auto built = build_trainer(lr_schedule_); !built) return built;
  return trainer_->load_own_state(own);
}

void EdgeSession::park() {
  if (dependencies_.models == nullptr) return;
  own_state_ = trainer_->own_state();
  dependencies_.models->give(trainer_->model());
  trainer_.reset();
}

void EdgeSession::handle_begin_round(wire::Message message) {
  if (message.key.round <= round_.number) return;  // a repeat
  auto& begin = std::get<wire::BeginRound>(message.body);
  if (const auto checked = job_->check(begin); !checked) {
    return fail(checked.error().code, "the aggregator's plan for round " + std::to_string(message.key.round) +
                                          " makes no sense: " + checked.error().message);
  }
  if (!trainer_) {
    const auto built = own_state_ ? unpark() : build_trainer(begin.lr_schedule);
    if (!built) return fail(built.error().code, built.error().message);
  }
  if (const auto loaded = trainer_->begin_round(begin.weights, begin.control); !loaded) {
    return fail(loaded.error().code, "the front of round " + std::to_string(message.key.round) +
                                         " does not fit this device's model: " + loaded.error().message);
  }
  expect_nothing();
  evaluation_ = {};
  round_ = {};
  round_.number = message.key.round;
  round_.ordinal = begin.ordinal > 0 ? begin.ordinal : message.key.round;
  round_.first_example = begin.first_example;
  round_.batch_sizes = begin.batch_sizes;
  phase_ = Phase::kTraining;
  job_->loader().start(begin.first_example, std::move(begin.batch_sizes));
  if (!plan()->trains_locally()) return forward_open_steps();
  if (round_.batch_sizes.empty()) report_trained();
}

void EdgeSession::forward_open_steps() {
  // Step s is computed only after step s - window was applied (decided strictly by step number, so that a
  // step this device sits out counts like any other), and before the next one is, so that answers which
  // arrive together give the same weights as one by one.
  do {
    while (round_.next_forward < round_.batch_sizes.size() &&
           round_.next_forward < round_.next_apply + plan()->window) {
      forward_step(round_.next_forward++);
    }
  } while (apply_next_answer());
  if (round_.next_apply == round_.batch_sizes.size()) {
    phase_ = Phase::kUpdating;
    if (round_.end_asked) send_front();
  }
}

void EdgeSession::forward_step(uint32_t step) {
  const Batch batch = job_->loader().next();
  if (round_.batch_sizes[step] == 0) return;
  if (plan()->u_shaped()) round_.labels[step] = batch.labels;
  request(wire::Activations{.activations = trainer_->front().forward(step, batch.inputs),
                            .labels = job_->labels_to_send(batch.labels)},
          step);
}

void EdgeSession::handle_answer(wire::Message message) {
  const uint32_t step = message.key.step;
  if (message.key.round != round_.number || phase_ != Phase::kTraining) return;
  if (const auto* skip = std::get_if<wire::Skip>(&message.body)) {
    note("round " + std::to_string(round_.ordinal) + ", step " + std::to_string(step) +
         " went on without this device: " + skip->reason);
    if (skip->until_next_round) return exclude();
    if (plan()->trains_locally()) return handle_receipt(message);
  }
  if (plan()->trains_locally()) return;
  if (step < round_.next_apply || step >= round_.next_forward) return;  // a repeat, or a step never sent
  // U-shaped, after going back: the head's half of the step comes first; this answer is asked for again.
  if (round_.labels.contains(step) && std::holds_alternative<wire::Gradients>(message.body)) return;
  answers_.insert_or_assign(step, std::move(message));
  forward_open_steps();
}

bool EdgeSession::apply_next_answer() {
  const uint32_t step = round_.next_apply;
  if (step >= round_.next_forward) return false;
  if (round_.batch_sizes[step] == 0) {
    ++round_.next_apply;
    return true;
  }
  const auto answer = answers_.find(step);
  if (answer == answers_.end()) return false;
  StageTrainer& front = trainer_->front();
  if (const auto* gradients = std::get_if<wire::Gradients>(&answer->second.body)) {
    if (const auto checked = front.check_gradient(step, gradients->gradient); !checked) {
      note("round " + std::to_string(round_.ordinal) + ", step " + std::to_string(step) + ": " +
           checked.error().message + "; step left out");
      front.drop(step);
    } else {
      if (!check_figures(gradients->figures, round_.batch_sizes[step])) return false;
      front.backward(step, gradients->gradient);
      count_step(gradients->figures);
    }
  } else {
    front.drop(step);
  }
  finish_step(step);
  return true;
}

void EdgeSession::finish_step(uint32_t step) {
  answers_.erase(step);
  open_requests_.close(step);
  round_.labels.erase(step);
  ++round_.next_apply;
  report_step();
  keep_step();
}

void EdgeSession::keep_step() {
  const uint32_t every = plan()->checkpoint_steps;
  if (every > 0 && round_.next_apply % every == 0) save_checkpoint(false);
}

bool EdgeSession::check_figures(const Figures& figures, uint64_t examples) {
  const bool fit = figures.examples == examples && figures.correct <= examples;
  if (fit && std::isfinite(figures.loss_sum)) return true;
  fail(ErrorCode::kProtocol, "the aggregator's figures say " + std::to_string(figures.correct) + " of " +
                                 std::to_string(figures.examples) + " right and a loss of " +
                                 std::to_string(figures.loss_sum) + ", the batch has " +
                                 std::to_string(examples) + " examples");
  return false;
}

void EdgeSession::count_step(const Figures& figures) {
  round_.figures += figures;
  ++round_.steps;
}

void EdgeSession::handle_outputs(const wire::Message& message) {
  const uint32_t step = message.key.step;
  const auto labels = round_.labels.find(step);
  // Without labels it is a repeat: the head has made this step.
  if (message.key.round != round_.number || phase_ != Phase::kTraining || labels == round_.labels.end())
    return;
  const at::Tensor& outputs = std::get<wire::Outputs>(message.body).outputs;
  if (const auto checked = job_->check_outputs(outputs, labels->second.size(0)); !checked) {
    return fail(checked.error().code, checked.error().message);
  }
  StageTrainer::LossStep head = trainer_->train_head(outputs, labels->second);
  round_.labels.erase(labels);
  request(wire::OutputGradients{.gradient = std::move(head.input_gradient), .figures = head.figures}, step);
}

// ---------------------------------------------------------------------------------------------------------
// Training without waiting for the aggregator.

bool EdgeSession::goes_up(uint32_t step) const {
  return round_.batch_sizes[step] > 0 && job_->goes_up(step);
}

bool EdgeSession::has_work() const {
  // Nothing moves between the positions that a Hello offers and the one that Welcome names.
  if (phase_ != Phase::kTraining || !plan()->trains_locally() || awaiting_welcome_) return false;
  if (round_.next_forward >= round_.batch_sizes.size()) return false;
  return !goes_up(round_.next_forward) || open_requests_.size() < plan()->window;
}

void EdgeSession::work() {
  const uint32_t step = round_.next_forward++;
  const Batch batch = job_->loader().next();
  if (round_.batch_sizes[step] > 0) {
    DeviceTrainer::LocalStep local = trainer_->train_locally(batch.inputs, batch.labels);
    count_step(local.figures);
    if (goes_up(step)) {
      request(wire::Activations{.activations = std::move(local.activations),
                                .labels = job_->labels_to_send(batch.labels)},
              step);
    }
  }
  ++round_.next_apply;
  report_step();
  keep_step();
  report_trained();
}

void EdgeSession::handle_receipt(const wire::Message& message) {
  if (message.key.round != round_.number || phase_ != Phase::kTraining) return;
  open_requests_.close(message.key.step);
  report_trained();
}

void EdgeSession::report_trained() {
  if (phase_ != Phase::kTraining || round_.next_apply < round_.batch_sizes.size() ||
      !open_requests_.empty()) {
    return;
  }
  phase_ = Phase::kUpdating;
  request(wire::Trained{round_.figures}, OpenRequests::kTrained);
  if (round_.end_asked) send_front();
}

}  // namespace tandem::edge_client
