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
  if (dependencies_.transport == nullptr)
    throw std::invalid_argument("EdgeSessionDependencies.transport is null");
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
  const LinkState link = dependencies_.transport->link();
  if (last_sent_ >= link.sent_until) last_sending_ = now;
  return now - std::max({last_heard_, last_hello_, last_sending_, link.transfer_at}) >= options_.resend_after;
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
  dependencies_.transport->send(std::move(frames));
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
