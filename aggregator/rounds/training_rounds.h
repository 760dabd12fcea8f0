#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "tandem/aggregator/evaluation/device_evaluation.h"
#include "tandem/aggregator/rounds/align_phase.h"
#include "tandem/aggregator/rounds/deadline_clock.h"
#include "tandem/aggregator/rounds/divergence.h"
#include "tandem/aggregator/rounds/merge_phase.h"
#include "tandem/aggregator/rounds/relay_turns.h"
#include "tandem/aggregator/rounds/round.h"
#include "tandem/aggregator/rounds/round_deadlines.h"
#include "tandem/aggregator/rounds/run_schedules.h"
#include "tandem/aggregator/rounds/training.h"
#include "tandem/aggregator/session/messenger.h"
#include "tandem/aggregator/session/session_options.h"
#include "tandem/aggregator/strategies/strategy.h"
#include "tandem/aggregator/tail/tail_steps.h"
#include "tandem/aggregator/tail/tails.h"
#include "tandem/aggregator/tail/trained_model.h"
#include "tandem/core/data/dataset.h"

namespace tandem::aggregator {

/// The rounds of a run, from the choice of the participants to the merged and evaluated model, for every
/// algorithm that has rounds:
///
/// idle -> training -> merging -> (evaluating) -> idle
///
/// `relay` has no merging: in training the front passes on after each turn. Messages in, messages out: no
/// thread, no socket. Everything given to the constructor must outlive it. Not thread-safe.
class TrainingRounds : public Training {
 public:
  TrainingRounds(const SessionOptions& options, Messenger& messenger, TrainedModel& model,
                 std::unique_ptr<Strategy> strategy, const Dataset* eval_data, std::function<TimePoint()> now,
                 std::function<void()> checkpoint);
  ~TrainingRounds() override;

  bool idle() const override { return state_ == State::kIdle; }
  void begin(const std::vector<ClientId>& present) override;
  bool receive(const ClientId& client, wire::Message message) override;
  void join(const ClientId& client) override;
  void resume(const ClientId& client, const wire::MessageKey& progress, bool went_back) override;
  void leave(const ClientId& client) override;
  void pause() override { clock_.pause(); }
  void go_on() override;
  std::optional<wire::DevicePosition> position_for(
      const ClientId& client, const std::vector<wire::DevicePosition>& offered) const override;
  std::vector<wire::RequestId> held_requests(const ClientId& client) const override;
  void tick(TimePoint as_of) override;
  std::optional<TimePoint> next_deadline() const override;
  const TrainingFigures& figures() const override { return figures_; }
  uint32_t sequence() const override { return sequence_; }
  bool settled() const override { return state_ == State::kIdle || state_ == State::kTraining; }
  uint32_t steps_since_round() const override;
  nlohmann::json state(NamedTensors& tensors) const override;
  Result<void> load_state(const nlohmann::json& state, const NamedTensors& tensors) override;

 private:
  enum class State { kIdle, kTraining, kMerging, kEvaluating };
  /// Figures from before the round, for those of the round.
  struct Start {
    TimePoint time;
    int64_t bytes_up = 0;
    int64_t bytes_down = 0;
  };

  // The beginning and the end of a round.
  std::vector<ClientId> choose_participants(const std::vector<ClientId>& present) const;
  std::map<ClientId, RoundPlanner::ClientData> data_of(const std::vector<ClientId>& clients) const;
  void make_tails();
  void open_round(RoundPlan plan);
  void equip_round(size_t turn);
  Result<void> take_merged_weights(const std::vector<ClientId>& participants);
  void start_participants();
  void send_begin_round(const ClientId& client);
  void abandon();
  void complete();
  void count_lost();
  void end_round();

  // Messages.
  void handle_activations(const ClientId& client, const wire::Message& message);
  void handle_output_gradients(const ClientId& client, const wire::Message& message);
  bool is_in_round(const ClientId& client, const wire::MessageKey& key);
  void handle_trained(const ClientId& client, const wire::Trained& trained, uint32_t round);
  void handle_weight_update(const ClientId& client, wire::Message message);
  void handle_evaluation(const ClientId& client, const wire::Message& message);

  // Training; in relay turn by turn.
  /// Makes every step that is ready; `only` names the lane of the client that sent something.
  void advance(std::optional<size_t> only = std::nullopt);
  bool advance_lane(size_t lane);
  bool training_is_over() const;
  void report_progress();
  void advance_relay();
  void begin_turn();
  void ask_for_front();
  void end_turn(const ClientUpdate* update);
  bool has_turn(const ClientId& client) const;

  // Time.
  bool is_paused() const;
  void expire_steps(TimePoint as_of);
  void expire_local_training(TimePoint as_of);
  void expire_round();
  void expire_fronts();
  void front_is_late(const ClientId& client);

  // Merging and evaluation.
  void begin_merge(bool now);
  void advance_merge();
  void finish_merge();
  bool ends_as_diverged(size_t others);
  void evaluate_or_complete();
  void advance_evaluation();

  // Checkpoints.
  void keep(bool is_kept, const std::function<void()>& change);
  bool can_answer(const ClientId& client, uint32_t from) const;
  NamedTensors settled_model() const;
  nlohmann::json round_state(NamedTensors& tensors) const;
  void load_round(const nlohmann::json& state, const NamedTensors& tensors);

  /// The round under way or to come, as people count.
  uint32_t ordinal() const { return figures_.completed_rounds + 1; }

  // The run.
  const SessionOptions& options_;
  Messenger& messenger_;
  TrainedModel& model_;
  std::unique_ptr<Strategy> strategy_;
  const Dataset* eval_data_;
  std::function<TimePoint()> now_;
  DeadlineClock clock_;
  /// Keeps the state of the whole run; what was sent since Messenger::hold leaves only then.
  std::function<void()> checkpoint_;
  RoundPlanner planner_;
  RunSchedules schedules_;
  std::optional<Tails> tails_;  // made with the first round; none with `federated`
  TrainingFigures figures_;
  Divergence divergence_;
  AlignPhase align_;
  uint32_t sequence_ = 0;
  int abandoned_in_a_row_ = 0;

  // The round under way; the three after `round_` refer to it.
  State state_ = State::kIdle;
  std::optional<Round> round_;
  std::optional<RelayTurns> relay_;  // relay only
  std::optional<TailSteps> steps_;
  std::optional<RoundDeadlines> deadlines_;
  std::optional<MergePhase> merge_;             // once its steps are over
  std::optional<DeviceEvaluation> evaluation_;  // once it is merged, where devices evaluate
  NamedTensors sent_weights_;  // as BeginRound carries them: a snapshot on the CPU that nobody writes
  NamedTensors sent_control_;
  Start start_;
  bool end_now_ = false;  // its time is up
  int merged_clients_ = 0;
  std::set<ClientId> late_fronts_;
};

}  // namespace tandem::aggregator
