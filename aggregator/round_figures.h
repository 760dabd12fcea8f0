#pragma once

#include <cstdint>
#include <map>
#include <utility>

#include <ATen/core/Tensor.h>

#include "tandem/aggregator/roster.h"
#include "tandem/aggregator/round.h"
#include "tandem/aggregator/run_observer.h"
#include "tandem/core/wire/messages.h"

namespace tandem::aggregator {

/// What crosses the network, for the formula that measured bytes are compared with.
struct TrafficModel {
  int64_t activation_bytes = 0;  ///< of one example at the cut, one way
  int64_t output_bytes = 0;      ///< of one example between tail and head, one way; U-shaped only
  int64_t weight_bytes = 0;      ///< of what a device sends to the merge, one way
  bool labels_go_up = true;      ///< 8 bytes an example
  bool gradients_come_down = true;
  uint32_t tail_interval = 1;  ///< every so many batches one goes up
};

/// Bytes of tensors that a client's part of a round needs: up and down, without framing, and without what
/// an evaluation or a repeat adds.
std::pair<int64_t, int64_t> traffic_of(const Participant& part, const TrafficModel& traffic);

/// The record of a round and of each participant, without what only the session knows (number, times, bytes
/// of the round, evaluation of the merged model).
RoundReport round_report(const Round& round, const Roster& roster, const TrafficModel& traffic,
                         const std::map<ClientId, wire::Evaluated>& evaluations);

/// Mean cross-entropy of logits [n, classes], and how many are right.
std::pair<double, uint32_t> mean_loss(const at::Tensor& logits, const at::Tensor& labels);

double seconds_between(TimePoint from, TimePoint to);

}  // namespace tandem::aggregator
