#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tandem/aggregator/evaluation/device_evaluation.h"
#include "tandem/aggregator/rounds/deadline_clock.h"
#include "tandem/aggregator/rounds/divergence.h"
#include "tandem/aggregator/rounds/round.h"
#include "tandem/aggregator/rounds/round_planner.h"
#include "tandem/aggregator/rounds/training.h"
#include "tandem/aggregator/rounds/transfer_allowance.h"
#include "tandem/aggregator/session/messenger.h"
#include "tandem/aggregator/session/session_options.h"
#include "tandem/aggregator/strategies/strategy.h"
#include "tandem/aggregator/tail/trained_model.h"
#include "tandem/core/data/dataset.h"

namespace tandem::aggregator {

/// Asynchronous federated learning (FedBuff, Nguyen et al. 2022): every client trains from the newest weights
/// as soon as its last update was taken, nobody waits for anybody, and the weights move whenever the
/// strategy's buffer is full. One such merge is what a round is to the others.
///
/// Where the devices evaluate (on the examples they hold back), they do so once, after the last merge: what
/// they are training on then would come too late anyway, and before it nobody is interrupted.
///
/// Updates are taken as they arrive, or (UpdateOrder::kPlanned) in the order in which they would arrive if
/// every step took equally long on every device: then a run can be repeated to the bit, and an update that is
/// early waits. Everything given to the constructor must outlive it. Not thread-safe.
class BufferedTraining : public Training {
 public:
  /// `buffer`: updates to a merge.
  BufferedTraining(const SessionOptions& options, Messenger& messenger, TrainedModel& model,
                   std::unique_ptr<Strategy> strategy, int buffer, const Dataset* eval_data,
                   std::function<TimePoint()> now, std::function<void()> checkpoint);

  bool idle() const override { return !begun_ || figures_.completed_rounds >= options_.plan.rounds; }
  void begin(const std::vector<ClientId>& present) override;
  bool receive(const ClientId& client, wire::Message message) override;
  void join(const ClientId& client) override;
  void resume(const ClientId& client, const wire::MessageKey& progress, bool went_back) override;
  void leave(const ClientId& client) override;
  void pause() override { clock_.pause(); }
  void go_on() override;
  std::vector<wire::RequestId> held_requests(const ClientId& client) const override;
  void tick(TimePoint as_of) override;
  std::optional<TimePoint> next_deadline() const override;
  const TrainingFigures& figures() const override { return figures_; }
  uint32_t sequence() const override { return sequence_; }
  std::optional<wire::DevicePosition> position_for(
      const ClientId& client, const std::vector<wire::DevicePosition>& offered) const override;
  /// The last merge is kept with its evaluation: that is gone through anew, with the update that led to it.
  bool settled() const override { return !evaluation_; }
  /// Updates, here.
  uint32_t steps_since_round() const override { return static_cast<uint32_t>(strategy_->updates()); }
  nlohmann::json state(NamedTensors& tensors) const override;
  Result<void> load_state(const nlohmann::json& state, const NamedTensors& tensors) override;

 private:
  /// What one client is doing.
  struct Task {
    uint32_t round = 0;  ///< of its messages
    uint32_t version = 0;
    std::shared_ptr<const NamedTensors> base;
    Participant part;
    uint64_t finish = 0;  ///< in steps since the beginning, were every device equally fast
    TimePoint deadline;
    TransferAllowance allowance;
    TimePoint late_at() const { return deadline + allowance.so_far(); }
    std::optional<ClientUpdate> update;
  };

  void span_schedule(const std::vector<ClientId>& present);
  void dispatch(const ClientId& client, uint64_t from);
  void send_begin_round(const ClientId& client, const Task& task);
  void handle_trained(const ClientId& client, Task& task, const wire::Trained& trained);
  void handle_weight_update(const ClientId& client, Task& task, wire::WeightUpdate update);
  void start_again(const ClientId& client, const std::string& reason);
  bool ends_as_diverged();
  void take_updates();
  std::map<ClientId, Task>::iterator next_to_take();
  void keep(const std::function<void()>& change);
  void take(const ClientId& client);
  void take_and_dispatch(const ClientId& client);
  void merge();
  void evaluate_or_complete();
  std::map<ClientId, uint64_t> held_out_examples() const;
  void begin_evaluation(std::map<ClientId, uint64_t> examples);
  bool awaits_evaluation() const;
  bool waits_for_training() const;
  void handle_evaluated(const ClientId& client, const wire::Message& message);
  void expire_evaluation(TimePoint as_of);
  void advance_evaluation();
  void complete_merge();
  void report_merge();
  TimePoint deadline_of(const Task& task) const;
  TransferAllowance allowance_of(const ClientId& client) const;
  Result<void> load_tasks(const nlohmann::json& state, const NamedTensors& tensors);

  const SessionOptions& options_;
  Messenger& messenger_;
  TrainedModel& model_;
  std::unique_ptr<Strategy> strategy_;
  int buffer_;
  const Dataset* eval_data_;
  std::function<TimePoint()> now_;
  DeadlineClock clock_;
  std::function<void()> checkpoint_;
  RoundPlanner planner_;
  LrScheduleOptions lr_schedule_;

  bool begun_ = false;
  uint32_t sequence_ = 0;
  std::shared_ptr<const NamedTensors> weights_;  // as BeginRound carries them
  std::map<ClientId, Task> tasks_;
  std::vector<ClientRecord> buffered_;  // of the updates in the buffer
  std::optional<DeviceEvaluation> evaluation_;
  int failed_in_a_row_ = 0;
  Divergence divergence_;
  TrainingFigures figures_;
  TimePoint merge_started_;
  int64_t bytes_up_before_ = 0;
  int64_t bytes_down_before_ = 0;
};

}  // namespace tandem::aggregator
