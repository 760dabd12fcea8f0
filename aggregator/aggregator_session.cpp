#include "tandem/aggregator/aggregator_session.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "tandem/aggregator/tail_trainer.h"
#include "tandem/core/training/evaluation.h"
#include "tandem/core/wire/message_codec.h"

namespace tandem::aggregator {
namespace {

/// A device with more examples is taken for a mistake or an attack: the steps of its round are planned one
/// by one. FedAvg sums n_k w_k exactly in double up to 2^29 examples.
constexpr int64_t kMaxExamples = int64_t{1} << 26;
/// Steps of a round, so that a plan fits into one message.
constexpr uint32_t kMaxSteps = 500'000;
/// Size of an example and number of classes for which a client may make the aggregator build a model; what
/// the operator asks for is not limited.
constexpr int64_t kMaxAnnouncedValues = int64_t{1} << 18;
constexpr int64_t kMaxAnnouncedClasses = 65'536;
/// Events that one client's behaviour may add to the record in one round.
constexpr int kMaxEventsPerClient = 50;
constexpr int kMaxAbandonedInARow = 3;
constexpr std::chrono::milliseconds kLivenessCheck{500};

double seconds_between(TimePoint from, TimePoint to) {
  return std::chrono::duration<double>(to - from).count();
}

double value_or_nan(const std::optional<double>& value) {
  return value.value_or(std::numeric_limits<double>::quiet_NaN());
}

/// Shapes that the front produces, from the definition: {B, ...}.
std::vector<int64_t> activation_shape(const ModelDefinition& definition, int cut, uint32_t batch) {
  std::vector<int64_t> shape = definition.block(cut - 1).output_shape;
  shape.insert(shape.begin(), batch);
  return shape;
}

double largest_magnitude(const at::Tensor& tensor) {
  if (tensor.numel() == 0) return 0;
  const torch::NoGradGuard no_grad;
  // NaN propagates through both, so one comparison with the limit finds NaN, infinity and 1e30 alike.
  return std::max(tensor.max().item<double>(), -tensor.min().item<double>());
}

}  // namespace

struct AggregatorSession::Model {
  Model(ModelDefinition model_definition, const SessionOptions& options)
      : definition(std::move(model_definition)),
        whole(definition.build(options.plan.seed)),
        front(whole.slice(0, options.plan.cut)),
        tail(whole.slice(options.plan.cut, definition.num_blocks())),
        minimum_batch(definition.uses_batch_statistics(0, definition.num_blocks()) ? 2u : 1u),
        planner({.seed = options.plan.seed,
                 .batch_size = options.batch_size,
                 .local_steps = options.local_steps,
                 .local_epochs = options.local_epochs,
                 .minimum_batch = minimum_batch,
                 .max_steps = kMaxSteps}) {}

  ModelDefinition definition;
  ModelPart whole;
  ModelPart front;
  ModelPart tail;
  uint32_t minimum_batch;  ///< examples a client brings to a step at least, if any
  RoundPlanner planner;
  std::unique_ptr<const Augmenter> augmenter;
  /// Made when the first round begins: the schedule's length may depend on that round's plan.
  std::optional<TailTrainer> trainer;
  /// The merged front as it is sent, a snapshot on the CPU that nobody writes.
  NamedTensors sent_front;
};

AggregatorSession::AggregatorSession(SessionOptions options, SessionDependencies dependencies)
    : options_(options.validated()), dependencies_(std::move(dependencies)) {
  if (dependencies_.observer == nullptr) throw std::invalid_argument("SessionDependencies.observer is null");
  run_started_ = dependencies_.now();
  next_liveness_check_ = run_started_ + kLivenessCheck;
}

AggregatorSession::~AggregatorSession() = default;

// ---------------------------------------------------------------------------------------------------------
// The model and the data it is for.

Result<void> AggregatorSession::prepare() {
  phase_ = Phase::kGathering;
  if (dependencies_.eval_data != nullptr) {
    DataDescription data = dependencies_.eval_data->describe();
    data.num_classes = std::max(data.num_classes, options_.plan.num_classes);
    return build_model(data);
  }
  if (!options_.plan.input_shape.empty() && options_.plan.num_classes > 0) {
    return build_model({.input_shape = options_.plan.input_shape, .num_classes = options_.plan.num_classes});
  }
  // The first client's data will decide the shape; what does not depend on it can be checked now.
  TrainingPlan nominal = options_.plan;
  nominal.input_shape = {3, 32, 32};
  nominal.num_classes = std::max<int64_t>(nominal.num_classes, 2);
  if (auto checked = nominal.check(); !checked) return checked;
  const auto definition = define_model(nominal.model, nominal.input_shape, nominal.num_classes);
  if (!definition) return definition.error();
  if (auto checked = definition->check_cut(nominal.cut); !checked) return checked;
  const auto augmenter = dependencies_.make_augmenter(nominal.augment, "", nominal.input_shape);
  return augmenter ? Result<void>() : augmenter.error();
}

Result<void> AggregatorSession::build_model(const DataDescription& data) {
  TrainingPlan plan = options_.plan;
  plan.input_shape = data.input_shape;
  plan.num_classes = data.num_classes;
  if (auto checked = plan.check(); !checked) return checked;
  auto definition = define_model(plan.model, plan.input_shape, plan.num_classes);
  if (!definition) return definition.error();
  if (auto checked = definition->check_cut(plan.cut); !checked) return checked;
  auto augmenter = dependencies_.make_augmenter(plan.augment, plan.normalize, plan.input_shape);
  if (!augmenter) return augmenter.error();

  SessionOptions with_plan = options_;
  with_plan.plan = plan;
  try {
    model_ = std::make_unique<Model>(std::move(*definition), with_plan);
  } catch (const std::exception& exception) {  // no memory
    return Error{ErrorCode::kTooLarge, "the model cannot be built: " + std::string(exception.what())};
  }
  options_.plan = plan;
  model_->augmenter = std::move(*augmenter);
  if (!dependencies_.initial_weights.empty()) {
    if (auto loaded = model_->whole.load(dependencies_.initial_weights); !loaded) {
      model_.reset();
      return loaded;
    }
  }
  model_->whole.to(options_.device);
  observe(dependencies_.observer->on_plan(plan, model_->definition.num_blocks()));
  return {};
}

Result<void> AggregatorSession::build_model_for(const DataDescription& data) {
  // A client announces this shape: what it makes us allocate is bounded.
  int64_t values = 1;
  for (const int64_t size : data.input_shape) {
    values = size > 0 && values <= kMaxAnnouncedValues && size <= kMaxAnnouncedValues
                 ? values * size
                 : kMaxAnnouncedValues + 1;
  }
  if (data.input_shape.size() > 4 || values > kMaxAnnouncedValues ||
      data.num_classes > kMaxAnnouncedClasses) {
    return Error{ErrorCode::kTooLarge,
                 "its examples have shape " + shape_to_string(data.input_shape) + " and " +
                     std::to_string(data.num_classes) + " classes; beyond " +
                     std::to_string(kMaxAnnouncedValues) + " values or " +
                     std::to_string(kMaxAnnouncedClasses) +
                     " classes start the aggregator with --input-shape and --num-classes"};
  }
  return build_model(data);
}

Result<void> AggregatorSession::check_data(const DataDescription& data) const {
  const TrainingPlan& plan = options_.plan;
  const int64_t fewest = model_->minimum_batch;
  if (data.num_examples < fewest || data.num_examples > kMaxExamples) {
    return Error{ErrorCode::kInvalidArgument,
                 "it has " + std::to_string(data.num_examples) + " examples, this run takes devices with " +
                     std::to_string(fewest) + " to " + std::to_string(kMaxExamples)};
  }
  if (data.input_shape != plan.input_shape) {
    return Error{ErrorCode::kShapeMismatch, "its examples have shape " + shape_to_string(data.input_shape) +
                                                ", this run trains on " + shape_to_string(plan.input_shape)};
  }
  if (data.num_classes > plan.num_classes) {
    return Error{ErrorCode::kShapeMismatch, "its labels need " + std::to_string(data.num_classes) +
                                                " classes, this run has " + std::to_string(plan.num_classes) +
                                                "; start the aggregator with --num-classes"};
  }
  return {};
}

NamedTensors AggregatorSession::weights() const {
  return model_->whole.state();
}

const ModelDefinition& AggregatorSession::definition() const {
  return model_->definition;
}

// ---------------------------------------------------------------------------------------------------------
// Messages in.

void AggregatorSession::receive(ConnectionId connection, const ClientId& client, wire::Message message,
                                int64_t bytes, TimePoint received_at) {
  if (done()) return;
  bytes_up_ += bytes;
  if (std::holds_alternative<wire::Hello>(message.body)) {
    handle_hello(connection, client, message, bytes, received_at);
  } else if (Member* member = roster_.find(client, connection)) {
    member->bytes_up += bytes;
    if (member->said_bye) return;  // what was on its way when it left
    member->last_heard = received_at;
    if (!member->present && !std::holds_alternative<wire::Bye>(message.body)) {
      member->present = true;
      event("join", client.name, "back after a silence");
      if (phase_ == Phase::kFinishing) send_finish(client);
    }
    handle(client, *member, std::move(message));
  } else if (Member* known = roster_.find(client);
             known != nullptr && known->present && std::holds_alternative<wire::Heartbeat>(message.body)) {
    // It reconnected while it computes; its Hello comes when it is done.
    known->last_heard = std::max(known->last_heard, received_at);
  } else if (!std::holds_alternative<wire::Bye>(message.body)) {
    refuse(connection, message.key, ErrorCode::kProtocol, "say Hello first on this connection", false);
  }
  if (phase_ == Phase::kGathering) begin_round_when_ready();
}

void AggregatorSession::receive_undecodable(ConnectionId connection, const ClientId& client,
                                            const Error& error) {
  if (done()) return;
  const bool fatal = error.code == ErrorCode::kUnsupported;  // another version of the protocol
  refuse(connection, key(), error.code, "that message did not decode, send it again: " + error.message,
         fatal);
  (void)client;
}

void AggregatorSession::handle_hello(ConnectionId connection, const ClientId& client,
                                     const wire::Message& message, int64_t bytes, TimePoint received_at) {
  const auto& hello = std::get<wire::Hello>(message.body);
  if (model_ == nullptr) {
    DataDescription data = hello.data;
    data.num_classes = std::max(data.num_classes, options_.plan.num_classes);
    if (!options_.plan.input_shape.empty()) data.input_shape = options_.plan.input_shape;
    if (const auto built = build_model_for(data); !built) {
      refuse(connection, message.key, built.error().code, built.error().message, true);
      event("refused", client.name, built.error().message);
      return;
    }
  }
  if (const auto checked = check_data(hello.data); !checked) {
    refuse(connection, message.key, checked.error().code, checked.error().message, true);
    event("refused", client.name, checked.error().message);
    return;
  }

  const Roster::Admission admission =
      roster_.admit(client, connection, hello.instance, hello.data, received_at);
  Member& member = *roster_.find(client);
  member.bytes_up += bytes;
  const bool resumed = admission.arrival == Roster::Arrival::kReconnected;
  if (admission.arrival == Roster::Arrival::kReplaced) {
    const wire::Message bye{
        .key = key(),
        .body = wire::Bye{wire::ByeReason::kReplaced, "another program with this device's key took over"}};
    send_to(admission.previous, bye);
    if (round_) round_->deactivate(client);
  }
  if (!resumed && merge_) report_merge_errors(merge_->give_up(client));
  std::string detail =
      std::to_string(hello.data.num_examples) + " examples, tandem " + hello.software_version;
  if (!resumed && member.took_part) detail += "; a new program, its optimiser state starts at zero";
  event(resumed ? "reconnect" : "join", client.name, detail);
  send(client, wire::Welcome{.plan = options_.plan, .client = client.name, .resumed = resumed});
  if (resumed) resume_client(client, message.key);
  if (phase_ == Phase::kTraining) advance_steps();
  if (phase_ == Phase::kMerging) advance_merge();
  if (phase_ == Phase::kFinishing) send_finish(client);
}

void AggregatorSession::resume_client(const ClientId& client, const wire::MessageKey& progress) {
  if (!round_ || round_->active(client) == nullptr) return;
  const wire::MessageKey here = key();
  if (progress.run_id != here.run_id || progress.incarnation != here.incarnation ||
      progress.round != here.round) {
    send_begin_round(client);
  } else if (merge_ && merge_->waits_for(client)) {
    send(client, wire::EndRound{});
  }
}

void AggregatorSession::handle(const ClientId& client, Member& member, wire::Message message) {
  if (const auto* bye = std::get_if<wire::Bye>(&message.body)) return handle_bye(client, *bye);
  // The network thread of an edge sends the same heartbeat all the time; it belongs to no run.
  if (std::holds_alternative<wire::Heartbeat>(message.body)) return send(client, wire::Heartbeat{});
  if (message.key.run_id != options_.run_id || message.key.incarnation != options_.incarnation) {
    return refuse(member.connection, message.key, ErrorCode::kProtocol,
                  "that message belongs to another run; say Hello again", false);
  }
  if (std::holds_alternative<wire::Activations>(message.body)) {
    handle_activations(client, member, message);
  } else if (std::holds_alternative<wire::FrontUpdate>(message.body)) {
    handle_front_update(client, std::move(message));
  } else if (const auto* refusal = std::get_if<wire::Refuse>(&message.body)) {
    event("refused-by-client", client.name, refusal->reason);
  } else {
    refuse(member.connection, message.key, ErrorCode::kProtocol,
           std::string("a client does not send ") + wire::message_type_name(wire::type_of(message.body)),
           false);
  }
}

void AggregatorSession::handle_bye(const ClientId& client, const wire::Bye& bye) {
  send(client, wire::Bye{wire::ByeReason::kLeaving, ""});
  if (Member* member = roster_.find(client)) member->said_bye = true;
  leave(client, bye.text.empty() ? "said goodbye" : bye.text);
}

bool AggregatorSession::answer_repeat(const ClientId& client, const Member& member,
                                      const wire::Message& message) {
  for (const KeptReply& kept : member.replies) {
    if (!(kept.key == message.key)) continue;
    if (kept.payload_hash == message.payload_hash) {
      send_message(client, kept.reply);
    } else {
      refuse(member.connection, message.key, ErrorCode::kProtocol,
             "step " + std::to_string(message.key.step) + " was already answered for other data", false);
    }
    return true;
  }
  return false;
}

Result<void> AggregatorSession::check_activations(const ClientId& client, uint32_t step,
                                                  const wire::Activations& data) const {
  const uint32_t batch = round_->planned(client, step);
  const auto shape = activation_shape(model_->definition, options_.plan.cut, batch);
  const at::Tensor& activations = data.activations;
  if (activations.scalar_type() != at::kFloat || activations.sizes() != at::IntArrayRef(shape)) {
    return Error{ErrorCode::kShapeMismatch,
                 "activations have shape " + shape_to_string(activations.sizes().vec()) + " " +
                     toString(activations.scalar_type()) + ", expected " + shape_to_string(shape) + " Float"};
  }
  const at::Tensor& labels = data.labels;
  if (labels.scalar_type() != at::kLong || labels.dim() != 1 || labels.size(0) != batch) {
    return Error{ErrorCode::kShapeMismatch, "labels have shape " + shape_to_string(labels.sizes().vec()) +
                                                " " + toString(labels.scalar_type()) + ", expected " +
                                                std::to_string(batch) + " Long"};
  }
  const int64_t lowest = labels.min().item<int64_t>();
  const int64_t highest = labels.max().item<int64_t>();
  if (lowest < 0 || highest >= options_.plan.num_classes) {
    return Error{ErrorCode::kInvalidArgument, "labels range from " + std::to_string(lowest) + " to " +
                                                  std::to_string(highest) + ", expected 0 to " +
                                                  std::to_string(options_.plan.num_classes - 1)};
  }
  const double magnitude = largest_magnitude(activations);
  if (!(magnitude <= options_.activation_limit)) {
    return Error{ErrorCode::kNonFinite, "activations reach a magnitude of " + std::to_string(magnitude) +
                                            ", expected finite values up to " +
                                            std::to_string(options_.activation_limit)};
  }
  return {};
}

void AggregatorSession::handle_activations(const ClientId& client, Member& member,
                                           const wire::Message& message) {
  if (answer_repeat(client, member, message)) return;
  const uint32_t step = message.key.step;
  const bool out = !round_ || message.key.round != round_number() || round_->active(client) == nullptr;
  if (out || phase_ != Phase::kTraining || step < round_->current_step()) {
    // Not kept as a reply: a stranger to the round could push out the replies of its own steps.
    wire::Message skip{.key = message.key,
                       .body = wire::Skip{.until_next_round = out,
                                          .reason = out ? "this client takes no part in the round any more"
                                                        : "the step went on without this client"}};
    return send_message(client, skip);
  }
  if (!round_->is_open(client, step, options_.plan.window)) {
    return refuse(member.connection, message.key, ErrorCode::kProtocol,
                  "step " + std::to_string(step) + " is not open for this client, the current one is " +
                      std::to_string(round_->current_step()),
                  false);
  }
  if (round_->has(client, step)) return;  // a repeat of what is waiting for the others
  const auto& data = std::get<wire::Activations>(message.body);
  if (const auto checked = check_activations(client, step, data); !checked) {
    ++refused_messages_;
    event("bad-activations", client.name, checked.error().message);
    if (step == round_->current_step()) {
      skip_client(client, step, message.payload_hash, checked.error().message);
    } else {
      refuse(member.connection, message.key, checked.error().code, checked.error().message, false);
    }
  } else {
    round_->put(step, {.client = client,
                       .activations = data.activations,
                       .labels = data.labels,
                       .payload_hash = message.payload_hash});
  }
  advance_steps();
}

void AggregatorSession::handle_front_update(const ClientId& client, wire::Message message) {
  // A repeat after the merge needs no answer: BeginRound or Finish is on its way.
  if (!merge_ || message.key.round != round_number() || !merge_->waits_for(client)) return;
  auto& update = std::get<wire::FrontUpdate>(message.body);
  report_merge_errors(merge_->receive(client, std::move(update.front), update.examples));
  advance_merge();
}

// ---------------------------------------------------------------------------------------------------------
// Rounds.

void AggregatorSession::begin_round_when_ready() {
  const std::vector<ClientId> clients = roster_.present();
  const int needed = started_ ? options_.min_clients : options_.clients;
  if (model_ != nullptr && static_cast<int>(clients.size()) >= needed) begin_round(clients);
}

void AggregatorSession::begin_round(const std::vector<ClientId>& clients) {
  std::map<ClientId, int64_t> examples;
  for (const ClientId& client : clients) examples[client] = roster_.find(client)->data.num_examples;
  RoundPlan plan = model_->planner.plan(examples);
  if (plan.steps > kMaxSteps) {
    return fail(
        {ErrorCode::kInvalidArgument, "a round has more than " + std::to_string(kMaxSteps) +
                                          " steps; use a larger --batch-size, fewer --local-epochs or "
                                          "--local-steps"});
  }
  if (!model_->trainer) {
    if (options_.schedule_spans_run) {
      options_.plan.lr_schedule.period_steps = std::max<int64_t>(
          1, int64_t{plan.steps} * options_.plan.rounds - options_.plan.lr_schedule.warmup_steps);
    }
    model_->trainer.emplace(model_->tail, TailTrainerOptions{.optimizer = options_.plan.optimizer,
                                                             .lr_schedule = options_.plan.lr_schedule,
                                                             .device = options_.device});
  }
  started_ = true;
  phase_ = Phase::kTraining;
  round_.emplace(RoundId{++round_sequence_}, std::move(plan));
  round_started_ = dependencies_.now();
  events_of_client_.clear();
  round_bytes_up_ = bytes_up_;
  round_bytes_down_ = bytes_down_;
  phase_deadline_ = round_started_ + options_.step_deadline;
  model_->sent_front = snapshot(model_->front.state());
  for (NamedTensor& entry : model_->sent_front) entry.tensor = entry.tensor.cpu();
  for (auto& [client, part] : round_->participants()) {
    Member& member = *roster_.find(client);
    part.first_example = member.position;
    part.bytes_up_before = member.bytes_up;
    part.bytes_down_before = member.bytes_down;
    for (const uint32_t size : part.batch_sizes) member.position += size;
    member.took_part = true;
    send_begin_round(client);
  }
  advance_steps();
}

void AggregatorSession::send_begin_round(const ClientId& client) {
  const Participant& part = round_->participants().at(client);
  send(client, wire::BeginRound{.first_example = part.first_example,
                                .batch_sizes = part.batch_sizes,
                                .previous_loss = value_or_nan(eval_loss_),
                                .previous_accuracy = value_or_nan(eval_accuracy_),
                                .front = model_->sent_front,
                                .lr_schedule = options_.plan.lr_schedule});
}

void AggregatorSession::advance_steps() {
  while (phase_ == Phase::kTraining) {
    if (round_->active_count() == 0) return abandon_round();
    if (round_->steps_done()) return begin_merge();
    if (!round_->ready()) return;
    run_step();
  }
}

void AggregatorSession::run_step() {
  const uint32_t step = round_->current_step();
  const std::vector<ClientActivations> clients = round_->take_and_advance();
  phase_deadline_ = dependencies_.now() + options_.step_deadline;
  if (clients.empty()) return;
  std::vector<ClientGradient> gradients = model_->trainer->step(clients);
  for (size_t i = 0; i < gradients.size(); ++i) {
    ClientGradient& result = gradients[i];
    if (!result.rejection.empty()) {
      ++refused_messages_;
      event("bad-activations", result.client.name, result.rejection);
      skip_client(result.client, step, clients[i].payload_hash, result.rejection);
      continue;
    }
    Participant& part = round_->participants().at(result.client);
    const auto size = static_cast<uint64_t>(clients[i].labels.size(0));
    part.steps += 1;
    part.examples += size;
    part.loss_sum += result.loss * static_cast<double>(size);
    part.correct += result.correct;
    applied_examples_ += static_cast<int64_t>(size);
    keep_reply(result.client, step, clients[i].payload_hash,
               wire::Gradients{
                   .gradient = std::move(result.gradient), .loss = result.loss, .correct = result.correct});
  }
  StepReport report{.round = completed_rounds_ + 1,
                    .rounds = options_.plan.rounds,
                    .steps_done = round_->current_step(),
                    .steps = round_->steps(),
                    .bytes_up = bytes_up_,
                    .bytes_down = bytes_down_};
  for (const auto& [client, part] : round_->participants()) {
    report.examples += static_cast<int64_t>(part.examples);
    report.loss += part.loss_sum;
    report.accuracy += static_cast<double>(part.correct);
  }
  if (report.examples > 0) {
    report.loss /= static_cast<double>(report.examples);
    report.accuracy /= static_cast<double>(report.examples);
  }
  dependencies_.observer->on_step(report);
}

void AggregatorSession::skip_client(const ClientId& client, uint32_t step, uint64_t payload_hash,
                                    const std::string& reason) {
  const bool excluded = round_->miss(client);
  keep_reply(client, step, payload_hash, wire::Skip{.until_next_round = excluded, .reason = reason});
  if (excluded) event("excluded", client.name, "missed two steps, until the next round: " + reason);
}

void AggregatorSession::expire_step() {
  const std::string reason =
      "nothing came within the step deadline of " + std::to_string(options_.step_deadline.count()) + " ms";
  for (const ClientId& client : round_->missing()) {
    const uint32_t step = round_->current_step();
    event("missed-step", client.name, "step " + std::to_string(step) + ": " + reason);
    const bool excluded = round_->miss(client);
    if (excluded) event("excluded", client.name, "missed two steps, until the next round: " + reason);
    send(client, wire::Skip{.until_next_round = excluded, .reason = reason}, step);
  }
  phase_deadline_ = dependencies_.now() + options_.step_deadline;
}

void AggregatorSession::abandon_round() {
  event("round-abandoned", "", "no client is left in round " + std::to_string(completed_rounds_ + 1));
  if (done()) return;
  training_seconds_ += seconds_between(round_started_, dependencies_.now());
  if (!roster_.present().empty() && ++abandoned_in_a_row_ >= kMaxAbandonedInARow) {
    return fail(
        {ErrorCode::kNonFinite,
         std::to_string(kMaxAbandonedInARow) +
             " rounds in a row lost every client though clients are there: the training diverged or they "
             "are too slow; see the excluded clients in metrics.jsonl, lower --learning-rate or raise "
             "--step-deadline"});
  }
  round_.reset();
  merge_.reset();
  phase_ = Phase::kGathering;
}

// ---------------------------------------------------------------------------------------------------------
// Merging.

void AggregatorSession::begin_merge() {
  std::map<ClientId, uint64_t> weights;
  for (const auto& [client, part] : round_->participants()) {
    if (part.active && part.examples > 0) weights[client] = part.examples;
  }
  phase_ = Phase::kMerging;
  merge_.emplace(model_->sent_front, std::move(weights));
  advance_merge();
}

void AggregatorSession::advance_merge() {
  const std::vector<ClientId> asked = merge_->next_to_ask();
  for (const ClientId& client : asked) send(client, wire::EndRound{});
  if (!asked.empty()) phase_deadline_ = dependencies_.now() + options_.update_deadline;
  if (!done() && merge_->complete()) complete_round();
}

void AggregatorSession::report_merge_errors(const std::vector<Error>& errors) {
  for (const Error& error : errors) {
    ++refused_messages_;
    event("bad-front", "", error.message + "; left out of the average");
  }
}

void AggregatorSession::complete_round() {
  if (const std::optional<NamedTensors> mean = merge_->mean()) {
    if (auto loaded = model_->front.load(*mean); !loaded) return fail(loaded.error());
  } else {
    event("merge-empty", "", "no usable front came back; the edge weights stay as they were");
    if (done()) return;
  }
  abandoned_in_a_row_ = 0;
  ++completed_rounds_;
  if (dependencies_.eval_data != nullptr) {
    const Evaluation evaluation = evaluate(model_->whole, *dependencies_.eval_data, *model_->augmenter,
                                           options_.eval_batch_size, options_.device);
    eval_loss_ = evaluation.loss;
    eval_accuracy_ = evaluation.accuracy;
  }

  RoundReport report;
  RoundRecord& record = report.record;
  record.round = completed_rounds_;
  record.eval_loss = eval_loss_;
  record.eval_accuracy = eval_accuracy_;
  record.clients = merge_->merged_clients();
  record.steps = round_->steps();
  record.seconds = seconds_between(round_started_, dependencies_.now());
  record.bytes_up = bytes_up_ - round_bytes_up_;
  record.bytes_down = bytes_down_ - round_bytes_down_;
  for (const auto& [client, part] : round_->participants()) {
    const Member& member = *roster_.find(client);
    const auto examples = static_cast<double>(std::max<uint64_t>(part.examples, 1));
    record.examples += static_cast<int64_t>(part.examples);
    record.loss += part.loss_sum;
    record.accuracy += static_cast<double>(part.correct);
    const auto planned = static_cast<uint32_t>(std::count_if(part.batch_sizes.begin(), part.batch_sizes.end(),
                                                             [](uint32_t size) { return size > 0; }));
    report.clients.push_back({.round = completed_rounds_,
                              .client = client.name,
                              .loss = part.loss_sum / examples,
                              .accuracy = static_cast<double>(part.correct) / examples,
                              .examples = static_cast<int64_t>(part.examples),
                              .steps = part.steps,
                              .missed_steps = planned - part.steps,
                              .bytes_up = member.bytes_up - part.bytes_up_before,
                              .bytes_down = member.bytes_down - part.bytes_down_before});
  }
  const auto examples = static_cast<double>(std::max<int64_t>(record.examples, 1));
  record.loss /= examples;
  record.accuracy /= examples;
  training_seconds_ += record.seconds;
  report.model = model_->whole.state();
  report.tail_optimizer = model_->trainer->optimizer().state();

  round_.reset();
  merge_.reset();
  phase_ = Phase::kGathering;
  observe(dependencies_.observer->on_round(report));
  if (done()) return;
  if (completed_rounds_ >= options_.plan.rounds) {
    begin_finish();
  } else {
    begin_round_when_ready();
  }
}

void AggregatorSession::begin_finish() {
  phase_ = Phase::kFinishing;
  completed_ = true;
  phase_deadline_ = dependencies_.now() + options_.update_deadline;
  model_->sent_front = snapshot(model_->front.state());
  for (NamedTensor& entry : model_->sent_front) entry.tensor = entry.tensor.cpu();
  for (const ClientId& client : roster_.present()) send_finish(client);
  finish_when_everyone_left();
}

void AggregatorSession::send_finish(const ClientId& client) {
  send(client, wire::Finish{value_or_nan(eval_loss_), value_or_nan(eval_accuracy_), model_->sent_front});
}

void AggregatorSession::finish_when_everyone_left() {
  if (roster_.present().empty()) end();
}

// ---------------------------------------------------------------------------------------------------------
// Time.

void AggregatorSession::tick(TimePoint as_of) {
  if (done()) return;
  if (as_of >= next_liveness_check_) {
    next_liveness_check_ = as_of + kLivenessCheck;
    drop_silent_clients(as_of);
    if (done()) return;
  }
  if (phase_ == Phase::kTraining && as_of >= phase_deadline_) {
    expire_step();
    advance_steps();
  } else if (phase_ == Phase::kMerging && as_of >= phase_deadline_) {
    for (const ClientId& client : merge_->outstanding()) {
      event("missed-merge", client.name, "its front did not come within the update deadline");
      report_merge_errors(merge_->give_up(client));
    }
    advance_merge();
  } else if (phase_ == Phase::kFinishing && as_of >= phase_deadline_) {
    end();
  }
  if (phase_ == Phase::kGathering) begin_round_when_ready();
}

std::optional<TimePoint> AggregatorSession::next_deadline() const {
  if (done() || roster_.present().empty()) return std::nullopt;
  const bool has_deadline =
      phase_ == Phase::kTraining || phase_ == Phase::kMerging || phase_ == Phase::kFinishing;
  return has_deadline ? std::min(next_liveness_check_, phase_deadline_) : next_liveness_check_;
}

void AggregatorSession::drop_silent_clients(TimePoint as_of) {
  for (const ClientId& client : roster_.silent_since(as_of - options_.client_timeout)) {
    leave(client, "silent for " + std::to_string(options_.client_timeout.count()) + " ms");
  }
}

void AggregatorSession::leave(const ClientId& client, const std::string& reason) {
  const Member* member = roster_.find(client);
  if (member == nullptr || !member->present) return;
  roster_.depart(client);
  event("leave", client.name, reason);
  if (round_) round_->deactivate(client);
  if (phase_ == Phase::kTraining) advance_steps();
  if (phase_ == Phase::kMerging) {
    report_merge_errors(merge_->give_up(client));
    advance_merge();
  }
  if (phase_ == Phase::kFinishing) finish_when_everyone_left();
}

void AggregatorSession::stop(const std::string& reason) {
  if (done()) return;
  for (const ClientId& client : roster_.present()) {
    send(client, wire::Bye{wire::ByeReason::kShuttingDown, reason});
  }
  end();
}

void AggregatorSession::fail(Error error) {
  if (done()) return;
  failure_ = std::move(error);
  completed_ = false;
  stop("the run failed: " + failure_->message);
}

void AggregatorSession::end() {
  phase_ = Phase::kDone;
  ended_ = dependencies_.now();
}

// ---------------------------------------------------------------------------------------------------------
// Messages out.

wire::MessageKey AggregatorSession::key(uint32_t step) const {
  return {
      .run_id = options_.run_id, .incarnation = options_.incarnation, .round = round_number(), .step = step};
}

uint32_t AggregatorSession::round_number() const {
  return round_sequence_;
}

void AggregatorSession::send(const ClientId& client, wire::Body body, uint32_t step) {
  send_message(client, {.key = key(step), .body = std::move(body)});
}

void AggregatorSession::send_message(const ClientId& client, const wire::Message& message) {
  Member& member = *roster_.find(client);
  member.bytes_down += send_to(member.connection, message);
}

void AggregatorSession::keep_reply(const ClientId& client, uint32_t step, uint64_t payload_hash,
                                   wire::Body reply) {
  Member& member = *roster_.find(client);
  wire::Message message{.key = key(step), .body = std::move(reply)};
  send_message(client, message);
  member.replies.push_back({.key = message.key, .payload_hash = payload_hash, .reply = std::move(message)});
  while (member.replies.size() > options_.plan.window) member.replies.pop_front();
}

void AggregatorSession::refuse(ConnectionId connection, const wire::MessageKey& key, ErrorCode code,
                               const std::string& reason, bool fatal) {
  ++refused_messages_;
  send_to(connection, {.key = key, .body = wire::Refuse{code, reason, fatal}});
}

int64_t AggregatorSession::send_to(ConnectionId connection, const wire::Message& message) {
  wire::Frames frames = wire::encode(message);
  const auto bytes = static_cast<int64_t>(wire::total_bytes(frames));
  bytes_down_ += bytes;
  dependencies_.send(connection, std::move(frames));
  return bytes;
}

void AggregatorSession::event(const std::string& name, const std::string& client, const std::string& detail) {
  // What a client does must not fill the disk: beyond a number a round, its events are only counted.
  if (!client.empty() && ++events_of_client_[client] > kMaxEventsPerClient) return;
  observe(dependencies_.observer->on_event(
      {.event = name, .round = completed_rounds_ + (round_ ? 1 : 0), .client = client, .detail = detail}));
}

void AggregatorSession::observe(Result<void> outcome) {
  if (!outcome) fail(outcome.error());
}

RunSummary AggregatorSession::summary() const {
  RunSummary summary;
  summary.status = completed_ ? "completed" : failure_ ? "failed" : "interrupted";
  summary.algorithm = options_.plan.algorithm;
  summary.strategy = "fedavg";
  summary.model = options_.plan.model;
  summary.cut = options_.plan.cut;
  summary.rounds = completed_rounds_;
  summary.clients = static_cast<int>(std::count_if(roster_.members().begin(), roster_.members().end(),
                                                   [](const auto& entry) { return entry.second.took_part; }));
  summary.eval_accuracy = eval_accuracy_;
  summary.eval_loss = eval_loss_;
  summary.seconds = seconds_between(run_started_, done() ? ended_ : dependencies_.now());
  summary.examples_per_second =
      training_seconds_ > 0 ? static_cast<double>(applied_examples_) / training_seconds_ : 0;
  summary.bytes_up = bytes_up_;
  summary.bytes_down = bytes_down_;
  return summary;
}

}  // namespace tandem::aggregator
