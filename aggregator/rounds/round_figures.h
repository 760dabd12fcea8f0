#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <utility>

#include <nlohmann/json_fwd.hpp>

#include "tandem/aggregator/rounds/round.h"
#include "tandem/aggregator/rounds/training.h"
#include "tandem/aggregator/session/roster.h"
#include "tandem/aggregator/session/run_observer.h"
#include "tandem/aggregator/tail/trained_model.h"
#include "tandem/core/training/figures.h"

namespace tandem::aggregator {

/// What crosses the network, for the formula that measured bytes are compared with.
struct TrafficModel {
  int64_t activation_bytes = 0;    ///< of one example at the cut, one way
  int64_t output_bytes = 0;        ///< of one example between tail and head, one way; U-shaped only
  int64_t weight_bytes = 0;        ///< of what a device sends to the merge, one way
  int64_t control_up_bytes = 0;    ///< SCAFFOLD: the change of a client's control variates
  int64_t control_down_bytes = 0;  ///< the server's, which clients get from the second round on
  bool labels_go_up = true;        ///< 8 bytes an example
  bool gradients_come_down = true;
  uint32_t tail_interval = 1;  ///< every so many batches one goes up
};

/// Bytes of tensors that a client's part of a round needs: up and down, without framing, and without what
/// an evaluation or a repeat adds.
std::pair<int64_t, int64_t> traffic_of(const Participant& part, const TrafficModel& traffic);

/// Of a run's model and plan, for clients with that partition.
TrafficModel traffic_model(const TrainedModel& model, const TrainingPlan& plan,
                           const ModelPartition& partition);

/// A client's part of a round, without the round's number and evaluations.
ClientRecord client_record(const ClientId& client, const Participant& part, const Member& member,
                           const TrafficModel& traffic);
/// What the client found when it evaluated the merged model.
void add_evaluation(ClientRecord& record, const Figures& result);
/// What clients' records add up to: losses weighted by examples.
RoundRecord sum_of(const std::vector<ClientRecord>& clients);

/// What a device says of a round it trained by itself; an error says why that cannot be. `most`: examples it
/// was to train on.
Result<void> check_trained(const Figures& trained, uint64_t most);

/// The record of a round and of each participant, without what only the session knows (number, times, bytes
/// of the round, evaluation of the merged model).
RoundReport round_report(const Round& round, const Roster& roster,
                         const std::function<const TrafficModel&(const ClientId&)>& traffic_of,
                         const std::map<ClientId, Figures>& evaluations);

/// How far the round is and what its steps gave, without what only the session knows (number, bytes). Where
/// no step goes up the devices that are done count as steps.
StepReport step_report(const Round& round);

double seconds_between(TimePoint from, TimePoint to);

/// How a figure that may not exist travels.
double value_or_nan(const std::optional<double>& value);

/// A run's figures in a checkpoint, among other values.
nlohmann::json json_of(const TrainingFigures& figures);
/// Throws nlohmann's exceptions on values without them.
TrainingFigures training_figures_of(const nlohmann::json& values);

}  // namespace tandem::aggregator
