#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include <nlohmann/json_fwd.hpp>

#include "tandem/aggregator/rounds/training.h"
#include "tandem/aggregator/rounds/transfer_allowance.h"
#include "tandem/aggregator/session/messenger.h"
#include "tandem/aggregator/session/roster.h"
#include "tandem/aggregator/session/run_data.h"
#include "tandem/aggregator/session/run_observer.h"
#include "tandem/aggregator/session/session_options.h"
#include "tandem/aggregator/tail/trained_model.h"
#include "tandem/core/data/augmenter.h"
#include "tandem/core/data/dataset.h"
#include "tandem/core/storage/checkpoint.h"
#include "tandem/core/transport/transport.h"
#include "tandem/core/wire/messages.h"

namespace tandem::aggregator {

/// What a session works with; everything must outlive it.
struct SessionDependencies {
  /// What it sends through.
  ServerTransport* transport = nullptr;
  RunObserver* observer = nullptr;
  /// Evaluation data, null when there is none (figures are then null).
  const Dataset* eval_data = nullptr;
  AugmenterFactory make_augmenter;
  /// Weights to start from instead of random ones, if any.
  std::optional<InitialWeights> initial_weights;
  /// The present moment. The session has no clock of its own.
  std::function<TimePoint()> now;
  /// Where the run is kept, at the end of each round and every `checkpoint_steps` steps; null for nowhere.
  CheckpointStorage* checkpoints = nullptr;
};

/// The aggregator's side of the protocol: who comes and goes, and when the run begins and ends. What happens
/// in between is Training's. Messages in, messages out, no thread and no socket. One thread calls it.
///
/// gathering -> a round -> gathering -> a round ... -> finishing -> done
///
/// Gathering waits for clients; finishing hands out the final front and waits until everybody who is present
/// has said goodbye, or nothing has crossed its connection for the client timeout. Who shows that it is there
/// and says nothing is waited for as long as for a front, and while the final front is on its way. A round in
/// which fewer than `min_clients` are left waits too, and keeps the places of those that fell silent. A
/// client that pauses (Bye) has its place for as long as one that falls silent.
///
/// What the operator leaves open of the data the devices decide before the first round; see RunData. A
/// setting that fits no data is an error of `prepare`. One that does not fit the data of the first device is
/// the operator's mistake too and ends the run, with the flag and the device named: no other device could do
/// better. That a device cannot end a run with data that nobody trains on, it is refused instead where its
/// data are not ordinary (is_ordinary), where they are beyond what a device may decide, and where the shape
/// is decided. A class count that grows after a Welcome makes another run of one that has not begun: under a
/// new run id everybody is welcomed anew.
class AggregatorSession {
 public:
  /// Throws std::invalid_argument for options out of range.
  AggregatorSession(SessionOptions options, SessionDependencies dependencies);
  ~AggregatorSession();

  /// Builds the model when the data's shape is already known (evaluation data or the plan), so that a bad
  /// model, cut or weight file is reported before anybody connects. Call once, first.
  Result<void> prepare();

  /// Goes on with the run that the checkpoint is of, under its next incarnation, instead of beginning one.
  /// The options must be those of that run. Call after prepare(), before the first message. kCorrupt and
  /// kShapeMismatch say what does not fit; the session is of no use then.
  Result<void> resume(const Checkpoint& checkpoint);

  /// A message from an authenticated client. `bytes`: its size on the wire. `address`: of its machine, for
  /// people; may be empty.
  void receive(ConnectionId connection, const ClientId& client, wire::Message message, int64_t bytes,
               TimePoint received_at, const std::string& address = {});
  /// Frames from an authenticated client that did not decode: asked for again, never held against it.
  void receive_undecodable(ConnectionId connection, const ClientId& client, const Error& error);
  /// So many messages of an authenticated client were dropped because too many of it waited.
  void flooded(const ClientId& client, int64_t messages);
  /// Bytes crossed this client's connection at `at`, either way and whether or not they complete a message,
  /// and since it was heard of last a transfer was going on for that long. Hand it in before the next tick.
  void heard(const ClientId& client, TimePoint at, TimePoint::duration transfer);
  /// Deadlines up to `as_of`, before which every message that arrived must have been handed in. Call when
  /// next_deadline() has passed; earlier does no harm.
  void tick(TimePoint as_of);
  std::optional<TimePoint> next_deadline() const;

  /// A client that may no longer connect: it leaves at once, and nothing of it counts until its next Hello.
  void revoke(const ClientId& client, const std::string& reason);

  /// A clean stop before the end: the run is kept where it stands, every client gets Bye(paused). Then
  /// done().
  void stop(const std::string& reason);
  /// The run failed for a reason outside the protocol (an exception while training): as stop, with a failure.
  void fail(Error error);

  bool done() const { return phase_ == Phase::kDone; }
  /// Why the run failed, once done; nothing after a complete or interrupted run.
  const std::optional<Error>& failure() const { return failure_; }
  /// Whether the first round has begun.
  bool started() const { return training_ != nullptr && training_->sequence() > 0; }
  bool completed() const { return done() && completed_; }

  /// What a round cannot begin or go on without, for a person: "3 of 4 clients (not here: cam-2)". Empty when
  /// nothing is waited for.
  std::string waiting_for() const;

  /// Figures of the run so far, without `peak_rss_bytes`.
  RunSummary summary() const;
  const TrainingPlan& plan() const { return options_.plan; }
  uint32_t incarnation() const { return options_.incarnation; }
  std::chrono::milliseconds client_timeout() const { return options_.client_timeout; }
  /// Bytes of the largest message that an honest client can have to send; 0 until the model is known.
  int64_t largest_message() const;
  /// The merged model; requires a prepared one.
  NamedTensors weights() const;
  const ModelDefinition& definition() const;
  /// Messages that were refused, dropped or taken out, for tests and metrics.
  uint64_t refused_messages() const { return messenger_.refused_messages(); }

 private:
  static constexpr std::chrono::milliseconds kLivenessCheck{500};
  /// What the devices are told when the run fails.
  static std::string failure_text(const Error& error);

  enum class Phase { kPreparing, kGathering, kRound, kFinishing, kDone };

  Result<void> build_model(const RunData& data);
  Result<void> meet(const ClientId& client, const DataDescription& data);
  Result<void> decide_by(const ClientId& client, const DataDescription& data);
  bool may_decide_anew(const ClientId& client) const;
  int64_t classes_of_present() const;
  void say_how_classes_differ(const ClientId& client, const DataDescription& data);
  bool settle_classes();
  std::string turned_away_text() const;

  void handle_hello(ConnectionId connection, const ClientId& client, const wire::Message& message,
                    int64_t bytes, TimePoint received_at, const std::string& address);
  void take_over(const ClientId& client, ConnectionId previous, const std::string& address);
  void turn_away(ConnectionId connection, const ClientId& client, const wire::MessageKey& key,
                 const Error& error);
  void handle(const ClientId& client, Member& member, wire::Message message);
  void handle_bye(const ClientId& client, const wire::Bye& bye);
  void answer_bye(ConnectionId connection);
  void pause(const ClientId& client, const std::string& reason);

  void greet(const ClientId& client, const wire::Message& hello, bool same_program, bool answered_already);
  void welcome(const ClientId& client, wire::Welcome welcome);
  Result<void> save_checkpoint();
  void keep_checkpoint();
  Result<void> load(const nlohmann::json& values, const Checkpoint& checkpoint);
  void say_bye(wire::ByeReason reason, const std::string& text);

  void quarantine(const ClientId& client);
  void follow_up();
  int clients_needed() const;
  bool short_of_clients() const;
  void wait_or_go_on();
  bool begin_round_when_ready();
  void begin_finish();
  void send_finish(const ClientId& client);
  void drop_silent_clients(TimePoint as_of);
  void leave(const ClientId& client, const std::string& reason);
  void leave_for_good(const ClientId& client, const std::string& reason);
  void end();
  TimePoint finish_deadline() const { return finish_deadline_ + finish_allowance_.so_far(); }
  uint32_t sequence() const { return training_ ? training_->sequence() : 0; }

  SessionOptions options_;
  SessionDependencies dependencies_;
  Phase phase_ = Phase::kPreparing;
  int fewest_clients_ = 1;  // that the options and the strategy go on with
  Messenger messenger_;
  RunData data_;
  std::unique_ptr<TrainedModel> model_;  // null until the data's shape is known
  std::unique_ptr<Training> training_;   // of the model
  bool waiting_ = false;                 // in a round, for more clients
  TimePoint waiting_since_;
  bool completed_ = false;
  std::optional<Error> failure_;
  uint64_t first_run_id_;                           // from which the run id has grown with the class count
  std::map<std::string, std::string> turned_away_;  // devices that are not here for that reason
  NamedTensors final_weights_;
  TimePoint next_liveness_check_;
  TimePoint finish_deadline_;
  std::chrono::milliseconds longest_transfer_{0};  // of the largest message, there and back
  TransferAllowance finish_allowance_;
  double seconds_before_ = 0;  // of earlier incarnations
  bool unkept_ = false;        // the disk did not take the last checkpoint
  TimePoint next_save_complaint_;
  TimePoint run_started_;
  TimePoint ended_;
};

}  // namespace tandem::aggregator
