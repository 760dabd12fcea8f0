#pragma once

#include <chrono>
#include <cstdint>

#include <c10/core/Device.h>

#include "tandem/core/training/training_plan.h"

namespace tandem::aggregator {

/// What an AggregatorSession needs to know beyond the plan it sends to the edges.
struct SessionOptions {
  /// `input_shape` and `num_classes` may be left open: the first client's data decides them then.
  TrainingPlan plan;

  /// Clients to wait for before the first round, and the fewest with which a round begins; 1 <= min_clients
  /// <= clients.
  int clients = 1;
  int min_clients = 1;
  /// Examples of a joined batch, B; >= 1.
  uint32_t batch_size = 64;
  /// Steps of a round; 0 means `local_epochs` passes over the clients' data.
  uint32_t local_steps = 0;
  uint32_t local_epochs = 1;
  /// Steps over which a cosine schedule ends; 0 takes the planned steps of the whole run, known when the
  /// first round begins.
  bool schedule_spans_run = false;

  /// How long a step waits for a client, from the moment the step before it was done. A client that misses
  /// it gets Skip; the second miss excludes it until the next round.
  std::chrono::milliseconds step_deadline{30'000};
  /// How long the end of a round waits for a client's front.
  std::chrono::milliseconds update_deadline{60'000};
  /// A client from which nothing comes for this long, heartbeats included, has left.
  std::chrono::milliseconds client_timeout{10'000};

  /// Activations with a larger magnitude are refused.
  double activation_limit = 1e6;
  at::Device device = at::kCPU;
  int64_t eval_batch_size = 500;

  /// Identifies the run in every message. Random, and without influence on what is learned.
  uint64_t run_id = 1;
  uint32_t incarnation = 1;

  /// Throws std::invalid_argument naming the first bad field.
  SessionOptions validated() const;
};

}  // namespace tandem::aggregator
