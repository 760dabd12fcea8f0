#include "tandem/aggregator/session/aggregator_session.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "tandem/aggregator/rounds/round_figures.h"
#include "tandem/aggregator/strategies/strategy.h"

namespace tandem::aggregator {
namespace {

/// Devices that were turned away whose names are kept, and of those the ones that a waiting run names.
constexpr size_t kMaxTurnedAway = 1000;
constexpr size_t kNamedTurnedAway = 3;

template <class T>
T& required(T* dependency, const char* name) {
  if (dependency == nullptr)
    throw std::invalid_argument("SessionDependencies." + std::string(name) + " is null");
  return *dependency;
}

/// Replies kept of each client: those that a device which goes back to its last checkpoint asks for again.
size_t kept_replies(const TrainingPlan& plan) {
  const size_t steps = plan.window - 1 + std::max(1u, plan.checkpoint_steps);
  return plan.u_shaped() ? 2 * steps : steps;  // outputs and gradients
}

std::string quarantine_text(const Member& member) {
  return "this device is in quarantine until the run is over: " + member.quarantined;
}

}  // namespace

AggregatorSession::AggregatorSession(SessionOptions options, SessionDependencies dependencies)
    : options_(options.validated()),
      dependencies_(std::move(dependencies)),
      messenger_(options_.run_id, options_.incarnation, kept_replies(options_.plan),
                 options_.quarantine_after, required(dependencies_.transport, "transport"),
                 required(dependencies_.observer, "observer")),
      first_run_id_(options_.run_id) {
  fewest_clients_ = std::max(options_.min_clients, strategy_traits(options_.strategy)->minimum_updates);
  run_started_ = dependencies_.now();
  next_liveness_check_ = run_started_ + kLivenessCheck;
}

AggregatorSession::~AggregatorSession() = default;

std::string AggregatorSession::failure_text(const Error& error) {
  return "the run failed: " + error.message;
}

int64_t AggregatorSession::largest_message() const {
  if (model_ == nullptr) return 0;
  constexpr int64_t kFraming = 1 << 20;
  int64_t largest = 0;
  for (const ModelPartition& partition : model_->partitions.distinct()) {
    const TrafficModel traffic = traffic_model(*model_, options_.plan, partition);
    // A rest too small to stand alone joins the batch before it.
    int64_t examples = 2 * int64_t{options_.batch_size} + 2;
    if (partition.tail()) {
      examples = std::max(examples, partition.evaluation_batch_size(model_->definition));
    }
    const int64_t batch = examples * (std::max(traffic.activation_bytes, traffic.output_bytes) + 8);
    largest = std::max({largest, batch, traffic.weight_bytes + traffic.control_up_bytes});
  }
  return largest + kFraming;
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
                                int64_t bytes, TimePoint received_at, const std::string& address) {
  if (done()) return;
  messenger_.count_received(bytes);
  Roster& roster = messenger_.roster();
  if (std::holds_alternative<wire::Hello>(message.body)) {
    handle_hello(connection, client, message, bytes, received_at, address);
  } else if (Member* member = roster.find(client, connection)) {
    member->bytes_up += bytes;
    // What was on its way when it left, or the answer to its goodbye got lost.
    if (member->said_bye || member->paused) {
      if (std::holds_alternative<wire::Bye>(message.body)) answer_bye(connection);
      return;
    }
    member->last_heard = std::max(member->last_heard, received_at);
    if (!member->present && !std::holds_alternative<wire::Bye>(message.body)) {
      const bool awaited = std::exchange(member->awaited, false);
      roster.return_to_place(client);
      messenger_.event(awaited ? "reconnect" : "join", client.name, "back after a silence");
      if (!awaited) training_->join(client);
      if (phase_ == Phase::kFinishing) send_finish(client);
    }
    handle(client, *member, std::move(message));
  } else if (Member* known = roster.find(client); known != nullptr && (known->present || known->awaited) &&
                                                  std::holds_alternative<wire::Heartbeat>(message.body)) {
    // It reconnected while it computes; its Hello comes when it is done.
    known->last_heard = std::max(known->last_heard, received_at);
  } else if (!std::holds_alternative<wire::Bye>(message.body)) {
    messenger_.refuse(connection, message.key, ErrorCode::kProtocol, "say Hello first on this connection",
                      false);
  }
  follow_up();
}

void AggregatorSession::receive_undecodable(ConnectionId connection, const ClientId& client,
                                            const Error& error) {
  if (done()) return;
  const bool fatal = error.code == ErrorCode::kUnsupported;  // another version of the protocol
  messenger_.refuse(connection, messenger_.key(sequence()), error.code,
                    "that message did not decode, send it again: " + error.message, fatal);
  // What the network damaged is nobody's fault.
  if (error.code != ErrorCode::kCorrupt) messenger_.count_offence(client, error.message);
  follow_up();
}

void AggregatorSession::flooded(const ClientId& client, int64_t messages) {
  if (done()) return;
  messenger_.condemn(client, std::to_string(messages) + " messages more than may wait");
  follow_up();
}

/// From now on nothing of this client counts, on any connection, until the run is over.
void AggregatorSession::quarantine(const ClientId& client) {
  const Member& member = *messenger_.roster().find(client);
  messenger_.event("quarantined", client.name, member.quarantined);
  messenger_.refuse(member.connection, messenger_.key(sequence()), ErrorCode::kRefused,
                    quarantine_text(member), true);
  leave_for_good(client, "in quarantine");
  // An aggregator that dies now must not let it in again.
  if (started() && training_->settled()) keep_checkpoint();
}

void AggregatorSession::handle_hello(ConnectionId connection, const ClientId& client,
                                     const wire::Message& message, int64_t bytes, TimePoint received_at,
                                     const std::string& address) {
  const auto& hello = std::get<wire::Hello>(message.body);
  const auto refuse = [&](const Error& error) { turn_away(connection, client, message.key, error); };
  if (const auto met = meet(client, hello.data); !met) {
    if (!messenger_.failure()) return refuse(met.error());
    // It is no member yet, and hears like the members that the run is over.
    messenger_.send_to(connection,
                       {.key = messenger_.key(sequence()),
                        .body = wire::Bye{wire::ByeReason::kShuttingDown, failure_text(met.error())}});
    return;
  }

  const Member* before = messenger_.roster().find(client);
  if (before != nullptr && !before->quarantined.empty()) {
    return refuse({ErrorCode::kRefused, quarantine_text(*before)});
  }
  // What was on its way when it left; a program that comes back has a new connection.
  if (before != nullptr && (before->said_bye || before->paused) && before->connection == connection) return;
  const bool another_program = before != nullptr && before->instance != hello.instance;
  // The same program still has its state, wherever it was meanwhile; one that was started again knows the run
  // only by what it kept.
  const bool has_its_state = before != nullptr && !another_program && message.key.run_id == options_.run_id;
  if (another_program && before->present && before->connection == connection) {
    messenger_.count_offence(client, "another program on the same connection");
    return refuse({ErrorCode::kProtocol, "another program has said Hello on this connection"});
  }
  if (another_program && (before->awaited || before->paused)) leave(client, "another program took its place");
  const bool asks_again = before != nullptr && before->present && before->connection == connection;
  const Roster::Admission admission =
      messenger_.roster().admit(client, connection, hello.instance, hello.data, received_at);
  Member& member = *messenger_.roster().find(client);
  turned_away_.erase(client.name);
  member.bytes_up += bytes;
  member.held_out_examples = std::min<uint64_t>(hello.held_out_examples, kMaxExamples);
  const bool answered_already = std::exchange(member.weights_on_their_way, false) && asks_again;
  const bool resumed = admission.arrival == Roster::Arrival::kReconnected;
  if (admission.arrival == Roster::Arrival::kReplaced) take_over(client, admission.previous, address);
  member.address = address;
  std::string detail =
      std::to_string(hello.data.num_examples) + " examples, tandem " + hello.software_version;
  if (!resumed && member.took_part) {
    detail += has_its_state ? "; back with its optimiser state, from the next round on"
                            : "; a new program, its optimiser state starts at zero";
  }
  // One that has heard nothing for a while says Hello again: no news for the record.
  if (!asks_again) messenger_.event(resumed ? "reconnect" : "join", client.name, detail);
  if (!asks_again && !resumed) say_how_classes_differ(client, hello.data);
  greet(client, message, resumed, answered_already);
  if (phase_ == Phase::kFinishing && !answered_already) send_finish(client);
}

/// A second program with the same key. One program that died and was started anew looks like it, once; a kit
/// on two machines does so again and again.
void AggregatorSession::take_over(const ClientId& client, ConnectionId previous, const std::string& address) {
  Member& member = *messenger_.roster().find(client);
  ++member.takeovers;
  const std::string from = address.empty() ? "" : " from " + address;
  std::string detail = "another program with its key took over" + from;
  if (!member.address.empty()) detail += ", before it was " + member.address;
  if (member.takeovers > 1) detail += "; time " + std::to_string(member.takeovers) + " in this run";
  if (member.takeovers > 1 || member.address != address)
    detail += "; if its kit is on two machines, stop one and make a kit for each (tandem devices add)";
  messenger_.event("replaced", client.name, detail);
  messenger_.send_to(previous,
                     {.key = messenger_.key(sequence()),
                      .body = wire::Bye{wire::ByeReason::kReplaced,
                                        "another program with this device's key took over" + from}});
}

void AggregatorSession::turn_away(ConnectionId connection, const ClientId& client,
                                  const wire::MessageKey& key, const Error& error) {
  messenger_.refuse(connection, key, error.code, error.message, true);
  messenger_.event("refused", client.name, error.message);
  const Member* member = messenger_.roster().find(client);
  if (member != nullptr && member->present) return;  // another program of it is here
  if (turned_away_.size() < kMaxTurnedAway) turned_away_[client.name] = error.message;
}

void AggregatorSession::handle(const ClientId& client, Member& member, wire::Message message) {
  if (const auto* bye = std::get_if<wire::Bye>(&message.body)) return handle_bye(client, *bye);
  // The network thread of an edge sends the same heartbeat all the time; it belongs to no run.
  if (std::holds_alternative<wire::Heartbeat>(message.body)) {
    return messenger_.send(client, wire::Heartbeat{}, sequence());
  }
  const wire::MessageKey key = message.key;
  if (!messenger_.is_of_this_run(key)) {
    return messenger_.refuse(member.connection, key, ErrorCode::kProtocol,
                             "that message belongs to another run; say Hello again", false);
  }
  if (const auto* refusal = std::get_if<wire::Refuse>(&message.body)) {
    return messenger_.event("refused-by-client", client.name, refusal->reason);
  }
  const wire::MessageType type = wire::type_of(message.body);
  if (!training_->receive(client, std::move(message))) {
    messenger_.count_offence(client, std::string("a message of kind ") + wire::message_type_name(type));
    messenger_.refuse(member.connection, key, ErrorCode::kProtocol,
                      std::string("a client does not send ") + wire::message_type_name(type), false);
  }
}

void AggregatorSession::answer_bye(ConnectionId connection) {
  messenger_.send_to(connection,
                     {.key = messenger_.key(sequence()), .body = wire::Bye{wire::ByeReason::kLeaving, ""}});
}

void AggregatorSession::handle_bye(const ClientId& client, const wire::Bye& bye) {
  answer_bye(messenger_.roster().find(client)->connection);
  // Where the run is complete there is nothing to come back to.
  if (bye.reason == wire::ByeReason::kPaused && phase_ != Phase::kFinishing) return pause(client, bye.text);
  leave_for_good(client, bye.text.empty() ? "said goodbye" : bye.text);
}

/// From now on it is treated like one from which nothing comes.
void AggregatorSession::pause(const ClientId& client, const std::string& reason) {
  Member& member = *messenger_.roster().find(client);
  if (!member.present) return;
  member.paused = true;
  member.last_heard = dependencies_.now();
  messenger_.event("pause", client.name,
                   (reason.empty() ? "" : reason + "; ") + "its place is kept for " +
                       std::to_string(options_.client_timeout.count()) + " ms");
}

// ---------------------------------------------------------------------------------------------------------
// The course of the run.

/// What has to happen after a message or a deadline: the run failed, a round is over, or everybody left.
void AggregatorSession::follow_up() {
  while (!done()) {
    if (messenger_.failure()) return fail(*messenger_.failure());
    for (const ClientId& client : messenger_.take_condemned()) quarantine(client);
    wait_or_go_on();
    if (phase_ == Phase::kRound && training_->idle()) {
      phase_ = Phase::kGathering;
      for (const ClientId& client : messenger_.roster().awaited()) messenger_.roster().depart(client);
      wait_or_go_on();
    }
    if (phase_ == Phase::kFinishing && messenger_.roster().present_count() == 0) return end();
    if (phase_ != Phase::kGathering || training_ == nullptr) return;
    if (training_->figures().completed_rounds >= options_.plan.rounds) {
      begin_finish();
    } else if (!begin_round_when_ready()) {
      return;
    }
  }
}

int AggregatorSession::clients_needed() const {
  if (!started()) return options_.clients;
  return fewest_clients_;
}

std::string AggregatorSession::waiting_for() const {
  std::string absent;
  for (const auto& [client, member] : messenger_.roster().members()) {
    if (!member.present) absent += (absent.empty() ? "" : ", ") + client.name;
  }
  const auto present = std::to_string(messenger_.roster().present_count());
  if (phase_ == Phase::kFinishing) return "the goodbyes of " + present + " client(s)";
  if (phase_ != Phase::kGathering && !waiting_) return "";
  const char* what = waiting_    ? "clients to go on with the round: "
                     : started() ? "clients for the next round: "
                                 : "clients for the first round: ";
  return what + present + " of " + std::to_string(clients_needed()) + " are here" +
         (absent.empty() ? "" : "; gone: " + absent) + turned_away_text();
}

/// Who would be here had it not been refused.
std::string AggregatorSession::turned_away_text() const {
  std::string text;
  size_t named = 0;
  for (const auto& [name, reason] : turned_away_) {
    if (named++ == kNamedTurnedAway) break;
    text += (text.empty() ? "; refused: " : ", ") + name + " (" + reason + ")";
  }
  const size_t more = turned_away_.size() - std::min(turned_away_.size(), kNamedTurnedAway);
  return text + (more > 0 ? " and " + std::to_string(more) + " more" : "");
}

bool AggregatorSession::short_of_clients() const {
  return phase_ == Phase::kRound && messenger_.roster().present_count() < clients_needed();
}

/// Called as soon as anybody came or went: nothing may be learned in between.
void AggregatorSession::wait_or_go_on() {
  if (short_of_clients() == waiting_) return;
  waiting_ = !waiting_;
  if (waiting_) {
    waiting_since_ = dependencies_.now();
    training_->pause();
    return messenger_.event("waiting", "", waiting_for());
  }
  if (phase_ == Phase::kRound) {
    messenger_.event("going-on", "",
                     std::to_string(messenger_.roster().present_count()) + " clients are here");
    // For those that are still away time stood still too.
    for (const ClientId& client : messenger_.roster().awaited()) {
      Member& member = *messenger_.roster().find(client);
      member.last_heard += dependencies_.now() - std::max(waiting_since_, member.last_heard);
    }
  }
  training_->go_on();
}

bool AggregatorSession::begin_round_when_ready() {
  if (messenger_.roster().present_count() < clients_needed()) return false;
  const std::vector<ClientId> clients = messenger_.roster().present();
  if (!started() && !settle_classes()) return false;
  phase_ = Phase::kRound;
  training_->begin(clients);
  return true;
}

void AggregatorSession::begin_finish() {
  phase_ = Phase::kFinishing;
  completed_ = true;
  finish_deadline_ = dependencies_.now() + options_.update_deadline;
  // Whatever the deadline of an update is: to close while the end is on its way leaves a device that waits
  // for ever.
  finish_allowance_ = {messenger_.roster(), messenger_.roster().present(), longest_transfer_};
  final_weights_ = cpu_snapshot(model_->device.exchanged());
  for (const ClientId& client : messenger_.roster().present()) send_finish(client);
}

void AggregatorSession::send_finish(const ClientId& client) {
  const TrainingFigures& figures = training_->figures();
  messenger_.send(client,
                  wire::Finish{value_or_nan(figures.eval_loss), value_or_nan(figures.eval_accuracy),
                               model_->held_by(model_->partitions.of(client), final_weights_)},
                  sequence());
}

}  // namespace tandem::aggregator
