#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <c10/core/Device.h>

#include "tandem/core/data/augmenter.h"
#include "tandem/core/data/dataset.h"
#include "tandem/core/storage/checkpoint.h"
#include "tandem/core/transport/transport.h"
#include "tandem/core/wire/messages.h"
#include "tandem/edge_client/session/edge_checkpoint.h"
#include "tandem/edge_client/session/held_out_evaluation.h"
#include "tandem/edge_client/session/kept_checkpoints.h"
#include "tandem/edge_client/session/open_requests.h"
#include "tandem/edge_client/training/device_job.h"
#include "tandem/edge_client/training/device_trainer.h"

namespace tandem::edge_client {

struct EdgeSessionOptions {
  /// Random for each start of the program.
  uint64_t instance = 1;
  at::Device compute = at::kCPU;
  /// Batches prepared ahead by the loader's thread; 0 prepares them in the session's thread.
  int prefetch = 2;
  /// After so long in which everything this device sent had left it and nothing came, the aggregator is asked
  /// what this device should be doing, and which of its requests are there: whatever got lost comes again,
  /// and nothing else does.
  std::chrono::milliseconds resend_after{15'000};
  /// The checkpoints outlive the program: leave() keeps where this device stands, and says that it comes
  /// back.
  bool comes_back = false;
};

/// Where a round stands, for a display.
struct EdgeReport {
  uint32_t round = 0;
  uint32_t rounds = 0;
  uint32_t steps_done = 0;
  uint32_t steps = 0;
  double loss = 0;      ///< mean over this device's examples of the round so far
  double accuracy = 0;  ///< 0..1
  int64_t examples = 0;
  int64_t bytes_up = 0;
  int64_t bytes_down = 0;
};

/// What a session works with; everything must outlive it.
struct EdgeSessionDependencies {
  /// What it sends through; its link() is in the time of `now`.
  ClientTransport* transport = nullptr;
  const Dataset* dataset = nullptr;
  /// Examples held back for evaluation; null when there are none.
  const Dataset* held_out = nullptr;
  AugmenterFactory make_augmenter;
  /// The present moment. The session has no clock of its own.
  std::function<TimePoint()> now;
  /// Where this device keeps the moments to which it can go back; null: only to where it stands. In memory
  /// they serve a run whose aggregator dies, on the disk also a device that dies.
  CheckpointStorage* checkpoints = nullptr;
  /// Where this device's model is between two rounds, for virtual clients that share a process; null: it
  /// stays here.
  ModelPool* models = nullptr;
  /// For a display; may be empty.
  std::function<void(const EdgeReport&)> on_step;
  std::function<void(const std::string&)> on_note;
  /// What somebody has to act on; as a note where it is empty.
  std::function<void(const std::string&)> on_warning;
};

/// The edge's side of the protocol and its training: messages in, messages out, no thread of its own
/// besides the loader's, and no socket. One thread calls it.
class EdgeSession {
 public:
  enum class Phase {
    kConnecting,  ///< no Welcome on this connection yet
    kWaiting,     ///< in the run, waiting for a round
    kTraining,    ///< steps are open
    kEvaluating,  ///< the merged weights are evaluated on the examples held back
    kUpdating,    ///< every step is done, or the front was sent; waiting for the merge
    kFinished,    ///< the run is complete
    kFailed,      ///< see failure()
  };

  EdgeSession(EdgeSessionOptions options, EdgeSessionDependencies dependencies);
  ~EdgeSession();

  /// Goes on where the kept checkpoints are, as the same program: call first, once, or not at all. Returns
  /// whether there is one; damaged ones are passed over with a note.
  bool resume();

  /// The transport (re)connected: says Hello.
  void connected();
  /// A message from the aggregator. `bytes`: its size on the wire.
  void receive(wire::Message message, int64_t bytes);
  /// Sends or asks again what got lost; see EdgeSessionOptions::resend_after. Call now and then.
  void tick();
  /// Whether a step can be trained without waiting for the aggregator, where the plan says so.
  bool has_work() const;
  /// Trains that step; it takes as long as a batch does, so that messages are heard in between. Requires
  /// has_work().
  void work();
  /// Leaves the run, or pauses (EdgeSessionOptions::comes_back): says Bye.
  void leave(const std::string& reason);
  /// Says Bye again, when the answer to the last one does not come. Requires done() or leave().
  void repeat_bye();

  Phase phase() const { return phase_; }
  bool done() const { return phase_ == Phase::kFinished || phase_ == Phase::kFailed; }
  const std::optional<Error>& failure() const { return failure_; }
  /// The aggregator has answered a Bye (or said one).
  bool bye_received() const { return bye_received_; }
  uint32_t round() const { return round_.number; }
  /// What the aggregator or other clients have to do next, for a person: "the answer to step 4 of round 2,
  /// asked for 12 s ago". Empty when nothing is waited for: there is work, or the session is done.
  std::string waiting_for() const;
  /// Steps of the round that are done on this device.
  uint32_t steps_done() const { return round_.next_apply; }

  /// The final merged front, once finished.
  const NamedTensors& final_front() const { return final_front_; }
  double final_accuracy() const { return final_accuracy_; }
  /// Null before the first Welcome.
  const TrainingPlan* plan() const { return job_ ? &job_->plan() : nullptr; }
  int64_t bytes_up() const { return bytes_up_; }
  int64_t bytes_down() const { return bytes_down_; }

 private:
  struct Round : DeviceRound {
    bool excluded = false;
    bool end_asked = false;  ///< EndRound has come; the front follows the last answer
    /// U-shaped: labels of the steps whose outputs have not come.
    std::map<uint32_t, at::Tensor> labels;
  };

  wire::DevicePosition here() const;
  std::optional<wire::DevicePosition> live_position() const;
  EdgeCheckpoint state() const;
  void save_checkpoint(bool front_sent, const NamedTensors& control_change = {});
  Result<void> go_to(const wire::DevicePosition& position);
  Result<void> load(EdgeCheckpoint checkpoint);
  void reopen_steps(const NamedTensors& trainer);
  void go_on();
  Result<void> join(const wire::Welcome& welcome, bool same_run);
  Result<void> adopt(const wire::Welcome& welcome);
  void handle_welcome(const wire::Message& message);
  void handle_refuse(const wire::Refuse& refuse);
  Result<void> build_trainer(const LrScheduleOptions& lr_schedule);
  /// Whether this device has trained in this run.
  bool has_trained() const { return trainer_ != nullptr || own_state_.has_value(); }
  /// Gets the model back from the pool.
  Result<void> unpark();
  /// Gives the model to the pool, where there is one.
  void park();
  void handle_begin_round(wire::Message message);
  void handle_answer(wire::Message message);
  void handle_outputs(const wire::Message& message);
  void handle_receipt(const wire::Message& message);
  void handle_end_round(const wire::EndRound& end);
  void handle_evaluate(wire::Message message);
  void handle_evaluation_answer(const wire::Message& message);
  void handle_finish(const wire::Finish& finish);
  void handle_bye(const wire::Bye& bye);

  void forward_open_steps();
  void forward_step(uint32_t step);
  bool apply_next_answer();
  void finish_step(uint32_t step);
  bool goes_up(uint32_t step) const;
  void report_trained();
  void keep_step();
  /// Fails unless figures that the aggregator sent are of so many examples.
  bool check_figures(const Figures& figures, uint64_t examples);
  void count_step(const Figures& figures);
  void send_evaluation_batch();
  void exclude();
  void send_front();
  wire::WeightUpdate weight_update(const NamedTensors& control_change) const;
  void expect_nothing();
  void say_hello();
  int resend_requests(const std::vector<wire::RequestId>& held);
  bool is_quiet(TimePoint now);
  void send(wire::Body body, uint32_t step = 0);
  void request(wire::Body body, uint32_t step);
  void transmit(const wire::Message& message);
  void report_step();
  void note(const std::string& line);
  void fail(ErrorCode code, const std::string& message);

  EdgeSessionOptions options_;
  EdgeSessionDependencies dependencies_;
  Phase phase_ = Phase::kConnecting;
  wire::MessageKey run_;  // run and incarnation of the last Welcome
  std::unique_ptr<DeviceJob> job_;
  std::unique_ptr<DeviceTrainer> trainer_;
  std::optional<NamedTensors> own_state_;  // while the model is in the pool
  LrScheduleOptions lr_schedule_;          // of the trainer
  KeptCheckpoints kept_;
  bool unkept_ = false;  // the disk did not take the last checkpoint
  std::chrono::steady_clock::time_point next_save_complaint_;
  Round round_;
  HeldOutEvaluation evaluation_;
  std::map<uint32_t, wire::Message> answers_;  // arrived, by step, waiting for their turn
  OpenRequests open_requests_;
  std::optional<Error> failure_;
  bool bye_received_ = false;
  bool leaving_ = false;
  bool asking_again_ = false;  // the last Hello was no new connection's
  bool asked_twice_ = false;   // and asked the same once more
  bool heard_since_hello_ = false;
  uint64_t sent_before_hello_ = 0;  // of open_requests_
  wire::Bye goodbye_;
  TimePoint last_sent_;
  TimePoint last_sending_;  // when what was sent had not left yet
  bool awaiting_welcome_ = false;
  TimePoint last_heard_;
  TimePoint last_hello_;
  NamedTensors final_front_;
  double final_accuracy_ = 0;
  int64_t bytes_up_ = 0;
  int64_t bytes_down_ = 0;
};

}  // namespace tandem::edge_client
