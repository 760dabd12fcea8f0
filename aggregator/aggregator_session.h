#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "tandem/aggregator/front_merge.h"
#include "tandem/aggregator/roster.h"
#include "tandem/aggregator/round.h"
#include "tandem/aggregator/run_observer.h"
#include "tandem/aggregator/session_options.h"
#include "tandem/core/data/augmenter.h"
#include "tandem/core/data/dataset.h"
#include "tandem/core/wire/frame.h"
#include "tandem/core/wire/messages.h"

namespace tandem::aggregator {

/// What a session works with; everything must outlive it.
struct SessionDependencies {
  /// Takes a message for a connection; never blocks on the peer.
  std::function<void(ConnectionId, wire::Frames)> send;
  RunObserver* observer = nullptr;
  /// Evaluation data, null when there is none (figures are then null).
  const Dataset* eval_data = nullptr;
  AugmenterFactory make_augmenter;
  /// Weights to start from instead of random ones; empty for none. Names must match the model's.
  NamedTensors initial_weights;
  /// The present moment. The session has no clock of its own.
  std::function<TimePoint()> now;
};

/// The aggregator's side of the protocol and its training: messages in, messages out, no thread and no
/// socket. One thread calls it.
///
/// gathering -> training -> merging -> (evaluation) -> training ... -> finishing -> done
///
/// Gathering waits for clients; training runs the round's joined steps; merging collects and averages the
/// fronts; finishing hands out the final front and waits for the goodbyes.
class AggregatorSession {
 public:
  /// Throws std::invalid_argument for options out of range.
  AggregatorSession(SessionOptions options, SessionDependencies dependencies);
  ~AggregatorSession();

  /// Builds the model when the data's shape is already known (evaluation data or the plan), so that a bad
  /// model, cut or weight file is reported before anybody connects. Call once, first.
  Result<void> prepare();

  /// A message from an authenticated client. `bytes`: its size on the wire.
  void receive(ConnectionId connection, const ClientId& client, wire::Message message, int64_t bytes,
               TimePoint received_at);
  /// Frames from an authenticated client that did not decode: asked for again, never held against it.
  void receive_undecodable(ConnectionId connection, const ClientId& client, const Error& error);
  /// Deadlines up to `as_of`, before which every message that arrived must have been handed in. Call when
  /// next_deadline() has passed; earlier does no harm.
  void tick(TimePoint as_of);
  std::optional<TimePoint> next_deadline() const;

  /// A clean stop before the end: every client gets Bye(shutting down). Then done().
  void stop(const std::string& reason);
  /// The run failed for a reason outside the protocol (an exception while training): as stop, with a failure.
  void fail(Error error);

  bool done() const { return phase_ == Phase::kDone; }
  /// Why the run failed, once done; nothing after a complete or interrupted run.
  const std::optional<Error>& failure() const { return failure_; }
  /// Whether the first round has begun.
  bool started() const { return started_; }
  bool completed() const { return done() && completed_; }

  /// Figures of the run so far, without `peak_rss_bytes`.
  RunSummary summary() const;
  const TrainingPlan& plan() const { return options_.plan; }
  /// The merged model; requires a prepared one.
  NamedTensors weights() const;
  const ModelDefinition& definition() const;
  /// Messages that were refused, dropped or taken out, for tests and metrics.
  uint64_t refused_messages() const { return refused_messages_; }

 private:
  enum class Phase { kPreparing, kGathering, kTraining, kMerging, kFinishing, kDone };
  struct Model;

  Result<void> build_model(const DataDescription& data);
  Result<void> build_model_for(const DataDescription& data);
  Result<void> check_data(const DataDescription& data) const;

  void handle_hello(ConnectionId connection, const ClientId& client, const wire::Message& message,
                    int64_t bytes, TimePoint received_at);
  void handle(const ClientId& client, Member& member, wire::Message message);
  void handle_activations(const ClientId& client, Member& member, const wire::Message& message);
  void handle_front_update(const ClientId& client, wire::Message message);
  void handle_bye(const ClientId& client, const wire::Bye& bye);
  bool answer_repeat(const ClientId& client, const Member& member, const wire::Message& message);
  Result<void> check_activations(const ClientId& client, uint32_t step,
                                 const wire::Activations& activations) const;
  void resume_client(const ClientId& client, const wire::MessageKey& progress);

  void begin_round_when_ready();
  void begin_round(const std::vector<ClientId>& clients);
  void send_begin_round(const ClientId& client);
  void advance_steps();
  void run_step();
  void skip_client(const ClientId& client, uint32_t step, uint64_t payload_hash, const std::string& reason);
  void expire_step();
  void abandon_round();

  void begin_merge();
  void advance_merge();
  void report_merge_errors(const std::vector<Error>& errors);
  void complete_round();
  void begin_finish();
  void send_finish(const ClientId& client);
  void finish_when_everyone_left();

  void leave(const ClientId& client, const std::string& reason);
  void drop_silent_clients(TimePoint as_of);
  void refuse(ConnectionId connection, const wire::MessageKey& key, ErrorCode code, const std::string& reason,
              bool fatal);
  void send(const ClientId& client, wire::Body body, uint32_t step = 0);
  void send_message(const ClientId& client, const wire::Message& message);
  int64_t send_to(ConnectionId connection, const wire::Message& message);
  void keep_reply(const ClientId& client, uint32_t step, uint64_t payload_hash, wire::Body reply);
  void event(const std::string& name, const std::string& client, const std::string& detail);
  void observe(Result<void> outcome);
  void end();
  wire::MessageKey key(uint32_t step = 0) const;
  uint32_t round_number() const;

  SessionOptions options_;
  SessionDependencies dependencies_;
  Phase phase_ = Phase::kPreparing;
  std::unique_ptr<Model> model_;  // null until the data's shape is known
  Roster roster_;
  std::optional<Round> round_;
  std::optional<FrontMerge> merge_;
  uint32_t completed_rounds_ = 0;
  /// Counts begun rounds: the round in message keys. Ahead of `completed_rounds_` by the abandoned ones, so
  /// that no message of an abandoned round is taken for one of its successor.
  uint32_t round_sequence_ = 0;
  int abandoned_in_a_row_ = 0;
  std::map<std::string, int> events_of_client_;  // in this round
  bool started_ = false;                         // the first round has begun: min_clients suffice from now on
  bool completed_ = false;
  std::optional<Error> failure_;
  TimePoint next_liveness_check_;
  TimePoint phase_deadline_;
  TimePoint run_started_;
  TimePoint round_started_;
  TimePoint ended_;
  int64_t applied_examples_ = 0;
  double training_seconds_ = 0;
  int64_t bytes_up_ = 0;
  int64_t bytes_down_ = 0;
  int64_t round_bytes_up_ = 0;
  int64_t round_bytes_down_ = 0;
  std::optional<double> eval_loss_;
  std::optional<double> eval_accuracy_;
  uint64_t refused_messages_ = 0;
};

}  // namespace tandem::aggregator
