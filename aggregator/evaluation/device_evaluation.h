#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "tandem/aggregator/evaluation/held_out_evaluation.h"
#include "tandem/aggregator/rounds/transfer_allowance.h"
#include "tandem/aggregator/session/messenger.h"
#include "tandem/aggregator/session/session_options.h"
#include "tandem/aggregator/tail/tails.h"
#include "tandem/aggregator/tail/trained_model.h"

namespace tandem::aggregator {

/// What devices are asked to evaluate.
struct EvaluationRequest {
  uint32_t round = 0;                     ///< of its messages
  std::map<ClientId, uint64_t> examples;  ///< how many each says it holds back, >= 1
  NamedTensors weights;                   ///< merged, on the CPU; nobody may write them
};

/// The devices' evaluation of a merged model: asks them, answers the batches that they send across the cut
/// where a tail is here, and takes their figures. Every client gives one figure or is given up, with a record
/// of why; nothing that is learned changes. Not thread-safe.
class DeviceEvaluation {
 public:
  /// `tails`: null where the whole model is on the devices. All must outlive this. The deadline is the update
  /// deadline from now.
  DeviceEvaluation(const SessionOptions& options, Messenger& messenger, const TrainedModel& model,
                   Tails* tails, std::function<TimePoint()> now, EvaluationRequest request);

  bool is_of(const wire::MessageKey& key) const { return key.round == progress_.round(); }
  /// Sends the weights to a client.
  void ask(const ClientId& client);
  /// To a client that is back; with `went_back` its batches come from the first one on again.
  void ask_again(const ClientId& client, bool went_back);
  /// Activations, or Evaluated, of this evaluation.
  void receive(const ClientId& client, const wire::Message& message);
  /// It left.
  void give_up(const ClientId& client) { progress_.give_up(client); }

  TimePoint deadline() const { return deadline_ + allowance_.so_far(); }
  /// The update deadline from now on.
  void restart_deadline();
  /// The deadline is not before this.
  void extend_deadline(TimePoint deadline);
  /// The deadline has passed: goes on without those that are waited for.
  void expire();

  bool waits_for(const ClientId& client) const { return progress_.waits_for(client); }
  bool complete() const { return progress_.complete(); }
  /// Devices that were refused because a value was not finite or beyond its limit.
  size_t beyond_limits() const { return beyond_limits_; }
  /// Who is waited for, and what was found.
  const HeldOutEvaluation& progress() const { return progress_; }

 private:
  void answer_batch(const ClientId& client, const wire::Message& message);
  void refuse(const ClientId& client, const Error& error);

  const SessionOptions& options_;
  Messenger& messenger_;
  const TrainedModel& model_;
  Tails* tails_;
  std::function<TimePoint()> now_;
  NamedTensors weights_;
  HeldOutEvaluation progress_;
  TimePoint deadline_;
  size_t beyond_limits_ = 0;
  TransferAllowance allowance_;
};

}  // namespace tandem::aggregator
