#include "tandem/edge_client/session/edge_session.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "tandem/core/base/version.h"
#include "tandem/core/wire/message_codec.h"

namespace tandem::edge_client {
namespace {

constexpr std::chrono::seconds kHelloInterval{1};

}  // namespace

EdgeSession::EdgeSession(EdgeSessionOptions options, EdgeSessionDependencies dependencies)
    : options_(std::move(options)), dependencies_(std::move(dependencies)), kept_(dependencies_.checkpoints) {
  if (dependencies_.dataset == nullptr)
    throw std::invalid_argument("EdgeSessionDependencies.dataset is null");
}

EdgeSession::~EdgeSession() = default;

// ---------------------------------------------------------------------------------------------------------
// Joining.

void EdgeSession::connected() {
  asking_again_ = false;
  if (!done()) say_hello();
}

void EdgeSession::say_hello() {
  last_hello_ = dependencies_.now();
  heard_since_hello_ = false;
  sent_before_hello_ = open_requests_.sent();
  awaiting_welcome_ = true;
  // The key says how far this device is, so that the aggregator can repeat what got lost.
  wire::Message hello{.key = run_,
                      .body = wire::Hello{.software_version = kVersion,
                                          .instance = options_.instance,
                                          .data = dependencies_.dataset->describe()}};
  if (dependencies_.held_out != nullptr) {
    std::get<wire::Hello>(hello.body).held_out_examples =
        static_cast<uint64_t>(dependencies_.held_out->describe().num_examples);
  }
  hello.key.round = std::max(round_.number, evaluation_.round());
  hello.key.step = round_.next_apply;
  std::get<wire::Hello>(hello.body).positions = kept_.offer(live_position());
  transmit(hello);
}

void EdgeSession::handle_welcome(const wire::Message& message) {
  const auto& welcome = std::get<wire::Welcome>(message.body);
  const bool same_run = run_.run_id != 0 && message.key.run_id == run_.run_id;
  const bool knows_all = same_run && message.key.incarnation == run_.incarnation;
  const bool awaited = std::exchange(awaiting_welcome_, false);
  // A second copy of the Welcome with which this device joined would throw away the round it is in.
  if (knows_all && !welcome.resumed && !awaited) return;
  run_ = {.run_id = message.key.run_id, .incarnation = message.key.incarnation};
  if (knows_all && welcome.resumed && !asking_again_) {
    note("reconnected, going on with round " + std::to_string(round_.ordinal));
    if (phase_ == Phase::kConnecting) phase_ = Phase::kWaiting;
  }
  if (knows_all && welcome.resumed) {
    const bool lost_some = resend_requests(welcome.held) > 0;
    // Weights that were sent before the aggregator had the question are here by now, or lost.
    if (asking_again_ && !lost_some && !heard_since_hello_ && !std::exchange(asked_twice_, true)) say_hello();
    return;
  }
  if (!same_run) {
    trainer_.reset();
    own_state_.reset();
    kept_.forget();
  }
  auto joined = job_ && same_run ? Result<void>() : adopt(welcome);
  if (joined && welcome.resumed) {
    joined = go_to(welcome.position);
    if (joined) return go_on();
  } else if (joined) {
    joined = join(welcome, same_run);
  }
  if (!joined) fail(joined.error().code, joined.error().message);
}

/// In the run from the next round on.
Result<void> EdgeSession::join(const wire::Welcome& welcome, bool same_run) {
  expect_nothing();
  // Optimiser state is this device's own: it survives a new welcome to the same run.
  if (same_run && !has_trained() && kept_.newest() != nullptr) {
    if (auto loaded = go_to(*kept_.newest()); !loaded) return loaded;
    open_requests_.clear();
  }
  round_ = {};
  evaluation_ = {};
  phase_ = Phase::kWaiting;
  note("joined: " + plan()->model + ", blocks 0 to " + std::to_string(plan()->cut - 1) + " here, " +
       std::to_string(plan()->rounds) + " rounds; waiting for the next round");
  return {};
}

Result<void> EdgeSession::adopt(const wire::Welcome& welcome) {
  auto job =
      DeviceJob::create(welcome, *dependencies_.dataset, dependencies_.make_augmenter, options_.prefetch);
  if (!job) return job.error();
  job_ = std::move(*job);
  return {};
}

void EdgeSession::handle_refuse(const wire::Refuse& refuse) {
  if (refuse.fatal) {
    return fail(refuse.code, "the aggregator refuses this device: " + refuse.reason);
  }
  note("the aggregator did not accept a message: " + refuse.reason);
  // At most once a second: a message that is refused again and again must not become a flood.
  if (dependencies_.now() - last_hello_ >= kHelloInterval) say_hello();
}

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

// ---------------------------------------------------------------------------------------------------------
// The end of a round.

void EdgeSession::exclude() {
  round_.excluded = true;
  expect_nothing();
  phase_ = Phase::kWaiting;
  note("out of round " + std::to_string(round_.ordinal) + ", waiting for the next one");
}

void EdgeSession::handle_end_round(const wire::EndRound& end) {
  if (round_.excluded || !has_trained() || (phase_ != Phase::kTraining && phase_ != Phase::kUpdating)) return;
  // After a reconnection EndRound can overtake the answers to the last steps, which are being repeated:
  // the front belongs to the round only when every one of them was applied.
  round_.end_asked = true;
  if (end.now && phase_ == Phase::kTraining) {
    note("the time of round " + std::to_string(round_.ordinal) + " is up after " +
         std::to_string(round_.next_apply) + " of " + std::to_string(round_.batch_sizes.size()) + " steps");
    trainer_->front().drop_all();
    expect_nothing();
    round_.labels.clear();
    phase_ = Phase::kUpdating;
    if (plan()->trains_locally()) send(wire::Trained{round_.figures});
  }
  open_requests_.close(OpenRequests::kTrained);
  if (phase_ == Phase::kUpdating) send_front();
}

void EdgeSession::send_front() {
  if (open_requests_.contains(OpenRequests::kWeightUpdate)) {
    // Not where it went out after the Hello that the aggregator may have had in mind.
    return open_requests_.resend_one(OpenRequests::kWeightUpdate, sent_before_hello_,
                                     [this](const auto& message) { transmit(message); });
  }
  const NamedTensors control_change = cpu_snapshot(trainer_->end_round());
  save_checkpoint(true, control_change);
  request(weight_update(control_change), OpenRequests::kWeightUpdate);
  park();
}

/// This device's part of the merge, once every step of the round is done.
wire::WeightUpdate EdgeSession::weight_update(const NamedTensors& control_change) const {
  return {.examples = round_.figures.examples,
          .steps = round_.steps,
          .weights = trainer_->weights(),
          .control_change = control_change};
}

// ---------------------------------------------------------------------------------------------------------
// Evaluation on the examples held back.

void EdgeSession::handle_evaluate(wire::Message message) {
  if (message.key.round <= std::max(round_.number, evaluation_.round())) return;  // a repeat
  if (!has_trained() || dependencies_.held_out == nullptr) return;
  if (const auto built = trainer_ ? Result<void>() : unpark(); !built) {
    return fail(built.error().code, built.error().message);
  }
  if (const auto loaded = trainer_->load(std::get<wire::Evaluate>(message.body).weights); !loaded) {
    return fail(loaded.error().code,
                "the weights to evaluate do not fit this device's model: " + loaded.error().message);
  }
  expect_nothing();
  evaluation_ = HeldOutEvaluation(message.key.round, *dependencies_.held_out, job_->evaluation_batch());
  phase_ = Phase::kEvaluating;
  send_evaluation_batch();
}

void EdgeSession::send_evaluation_batch() {
  while (const auto batch = evaluation_.next_batch()) {
    const at::Tensor activations = trainer_->evaluate_front(job_->augmenter().prepare(batch->inputs));
    if (job_->has_tail()) {
      return request(
          wire::Activations{.activations = activations, .labels = job_->labels_to_send(batch->labels)},
          evaluation_.step());
    }
    evaluation_.count(trainer_->evaluate_head(activations, batch->labels));
  }
  request(wire::Evaluated{evaluation_.totals()}, OpenRequests::kTrained);
  park();
}

void EdgeSession::handle_evaluation_answer(const wire::Message& message) {
  const uint32_t awaited = evaluation_.step();
  if (!open_requests_.contains(awaited) || message.key.step != awaited) return;
  if (const auto* receipt = std::get_if<wire::Receipt>(&message.body)) {
    const auto examples = static_cast<uint64_t>(evaluation_.labels().size(0));
    if (!check_figures(receipt->figures, examples)) return;
    evaluation_.count(receipt->figures);
  } else if (const auto* outputs = std::get_if<wire::Outputs>(&message.body)) {
    const auto checked = job_->check_outputs(outputs->outputs, evaluation_.labels().size(0));
    if (!checked) return fail(checked.error().code, checked.error().message);
    evaluation_.count(trainer_->evaluate_head(outputs->outputs, evaluation_.labels()));
  } else {
    return;
  }
  open_requests_.close(awaited);
  send_evaluation_batch();
}

void EdgeSession::handle_finish(const wire::Finish& finish) {
  final_front_ = finish.weights;  // they share the memory of the message
  final_accuracy_ = finish.eval_accuracy;
  phase_ = Phase::kFinished;
  goodbye_ = {wire::ByeReason::kLeaving, "the run is complete"};
  send(goodbye_);
}

void EdgeSession::handle_bye(const wire::Bye& bye) {
  bye_received_ = true;
  if (done()) return;
  switch (bye.reason) {
    case wire::ByeReason::kReplaced:
      return fail(ErrorCode::kRefused,
                  "another program connected with this device's key and took over" +
                      (bye.text.empty() ? std::string() : " (" + bye.text + ")") +
                      "; run one program a key: a kit belongs to one machine and to one program there");
    case wire::ByeReason::kShuttingDown:
      return fail(ErrorCode::kClosed, "the aggregator stopped before the run was complete" +
                                          (bye.text.empty() ? std::string() : ": " + bye.text));
    case wire::ByeReason::kPaused:
      bye_received_ = false;
      return note("the aggregator pauses" + (bye.text.empty() ? std::string() : " (" + bye.text + ")") +
                  "; waiting for it to come back");
    case wire::ByeReason::kLeaving:
      return;
  }
}

void EdgeSession::leave(const std::string& reason) {
  if (done()) return;
  leaving_ = true;
  goodbye_ = {wire::ByeReason::kLeaving, reason};
  if (options_.comes_back) {
    // With the front sent it stands where it kept itself already, and a U-shaped step that is open is made
    // again.
    const bool is_between_halves =
        trainer_ != nullptr && plan()->u_shaped() && trainer_->front().open_tickets() > 0;
    const bool stands = trainer_ != nullptr && !is_between_halves && live_position().has_value();
    if (stands && !open_requests_.contains(OpenRequests::kWeightUpdate)) save_checkpoint(false);
    goodbye_.reason = wire::ByeReason::kPaused;
    note("pausing; started again with --resume it goes on from here");
  }
  send(goodbye_);
}

void EdgeSession::repeat_bye() {
  send(goodbye_);
}

// ---------------------------------------------------------------------------------------------------------
// Messages out.

void EdgeSession::tick() {
  if (done() || !is_quiet(dependencies_.now()) || has_work()) return;
  asking_again_ = true;
  asked_twice_ = false;
  say_hello();
}

/// Whether what this device sent has left it, and nothing came, for EdgeSessionOptions::resend_after.
bool EdgeSession::is_quiet(TimePoint now) {
  TimePoint since = std::max(last_heard_, last_hello_);
  if (dependencies_.link) {
    const LinkState link = dependencies_.link();
    if (last_sent_ >= link.sent_until) last_sending_ = now;
    since = std::max({since, last_sending_, link.transfer_at});
  }
  return now - since >= options_.resend_after;
}

/// Those that the aggregator did not have when it answered the last Hello.
int EdgeSession::resend_requests(const std::vector<wire::RequestId>& held) {
  return open_requests_.resend(sent_before_hello_, held, [this](const auto& message) { transmit(message); });
}

void EdgeSession::request(wire::Body body, uint32_t step) {
  wire::Message message{.key = run_, .body = std::move(body)};
  message.key.round = phase_ == Phase::kEvaluating ? evaluation_.round() : round_.number;
  message.key.step = OpenRequests::is_step(step) ? step : 0;
  transmit(message);
  open_requests_.open(step, std::move(message), dependencies_.now());
}

/// No answer counts any more, arrived or not.
void EdgeSession::expect_nothing() {
  answers_.clear();
  open_requests_.clear();
}

void EdgeSession::send(wire::Body body, uint32_t step) {
  wire::Message message{.key = run_, .body = std::move(body)};
  message.key.round = round_.number;
  message.key.step = step;
  transmit(message);
}

void EdgeSession::transmit(const wire::Message& message) {
  wire::Frames frames = wire::encode(message);
  bytes_up_ += static_cast<int64_t>(wire::total_bytes(frames));
  dependencies_.send(std::move(frames));
  last_sent_ = dependencies_.now();
}

std::string EdgeSession::waiting_for() const {
  if (done() || leaving_ || has_work()) return "";
  if (phase_ == Phase::kConnecting) return "the aggregator's answer to this device's Hello";
  const std::string of_round = " of round " + std::to_string(round_.ordinal);
  if (const auto oldest = open_requests_.oldest()) {
    const auto since = std::chrono::duration_cast<std::chrono::seconds>(dependencies_.now() - oldest->since);
    const std::string asked = ", asked for " + std::to_string(since.count()) + " s ago";
    if (phase_ == Phase::kEvaluating) return "the answer to a batch of the evaluation" + asked;
    if (OpenRequests::is_step(oldest->step))
      return "the answer to step " + std::to_string(oldest->step + 1) + of_round + asked;
  }
  switch (phase_) {
    case Phase::kUpdating:
      return "the other clients and the merge" + of_round;
    case Phase::kEvaluating:
      return "the end of the evaluation";
    default:
      return round_.number == 0
                 ? "other clients: the first round has not begun"
                 : "the next round: round " + std::to_string(round_.ordinal) + " goes on without this device";
  }
}

void EdgeSession::report_step() {
  if (!dependencies_.on_step) return;
  const Figures& figures = round_.figures;
  const bool any = figures.examples > 0;
  dependencies_.on_step({.round = round_.ordinal,
                         .rounds = plan()->rounds,
                         .steps_done = round_.next_apply,
                         .steps = static_cast<uint32_t>(round_.batch_sizes.size()),
                         .loss = any ? figures.mean_loss() : 0,
                         .accuracy = any ? figures.accuracy() : 0,
                         .examples = static_cast<int64_t>(figures.examples),
                         .bytes_up = bytes_up_,
                         .bytes_down = bytes_down_});
}

void EdgeSession::note(const std::string& line) {
  if (dependencies_.on_note) dependencies_.on_note(line);
}

void EdgeSession::fail(ErrorCode code, const std::string& message) {
  // The others need not wait for this device until it counts as silent.
  if (run_.run_id != 0 && !bye_received_) send(wire::Bye{wire::ByeReason::kLeaving, message});
  failure_ = Error{code, message};
  phase_ = Phase::kFailed;
  expect_nothing();
}

}  // namespace tandem::edge_client
