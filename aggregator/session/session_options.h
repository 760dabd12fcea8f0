#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include <c10/core/Device.h>

#include "tandem/aggregator/rounds/round_planner.h"
#include "tandem/core/base/ids.h"
#include "tandem/core/partition/client_cuts.h"
#include "tandem/core/training/training_plan.h"

namespace tandem::aggregator {

/// What happens to a client that misses a step's deadline.
enum class StragglerRule {
  kDrop,  ///< the step goes on without it, the batch is lost; after two it is out until the next round
  kWait,  ///< nobody goes on without it, unless it leaves
  /// The step goes on without it, and so do the next ones, until its batch arrives and joins the step that is
  /// open then. When nobody else is left the round waits for it as long as for a front. Only for `parallel`.
  kLate,
};

/// fedbuff: which update is taken next.
enum class UpdateOrder {
  kArrival,  ///< whichever comes first: nobody waits, and no run is like another
  kPlanned,  ///< as if every step took equally long on every device: a run can be repeated to the bit
};

/// The aligned objective: how tail and auxiliary head are brought into line at the end of a round, on its
/// smashed data. As it stands here it is FSL-SAGE; the flags let the tail go over the data too.
struct AlignmentSchedule {
  uint32_t interval = 1;            ///< every so many rounds
  int64_t max_bytes = 256LL << 20;  ///< room for smashed data; the newest of a round are kept
  /// The tail's passes over them, before the head is fitted to it; 0: none. With the tail interval less one
  /// it makes as many steps as if every batch had gone up, where each round is aligned and all data are kept.
  int tail_epochs = 0;
  int epochs = 1;               ///< the passes in which the head is fitted, after the merge; 0: none
  double learning_rate = 1e-4;  ///< of Adam
};

/// What an AggregatorSession needs to know beyond the plan it sends to the edges.
struct SessionOptions {
  /// `input_shape` and `num_classes` may be left open: RunData says who decides them then.
  TrainingPlan plan;
  /// Where clients have different cuts; nullopt gives everybody the plan's. The plan's cut is then the
  /// highest.
  std::optional<ClientCuts> cuts;

  /// Clients to wait for before the first round, and the fewest with which the run goes on: with fewer it
  /// waits, between rounds and within them; 1 <= min_clients <= clients.
  int clients = 1;
  int min_clients = 1;
  /// Who takes part in a round: so many of the clients that are there, drawn by the seed; 0 takes all.
  int clients_per_round = 0;
  /// How updates are merged; see make_strategy.
  std::string strategy = "fedavg";
  /// Examples of a joined batch, B, for `parallel`; of each client's batch for the others; >= 1.
  uint32_t batch_size = 64;
  /// Steps of a round; 0 means `local_epochs` passes over the clients' data.
  uint32_t local_steps = 0;
  uint32_t local_epochs = 1;
  /// Steps over which a cosine schedule ends; 0 takes the planned steps of the whole run, known when the
  /// first round begins.
  bool schedule_spans_run = false;

  /// How long a tail's step waits for a client, from the moment the step before it was done.
  std::chrono::milliseconds step_deadline{30'000};
  StragglerRule stragglers = StragglerRule::kDrop;
  /// After so long every client sends its front as it stands; 0 lets a round take its time.
  std::chrono::milliseconds round_deadline{0};
  /// How long the end of a round waits for a client's front.
  std::chrono::milliseconds update_deadline{60'000};
  /// The step's or the update deadline is put off while what it waits for is on its way, by as much as the
  /// largest message takes there and back on the slowest link (kSlowestLinkBytesPerSecond).
  bool step_waits_for_transfers = false;
  bool update_waits_for_transfers = false;
  /// That long, each; set by the session, which knows the sizes. 0: the deadline holds.
  std::chrono::milliseconds step_allowance{0};
  std::chrono::milliseconds update_allowance{0};
  /// A client from which nothing comes for this long, heartbeats included, has left.
  std::chrono::milliseconds client_timeout{10'000};

  UpdateOrder update_order = UpdateOrder::kArrival;
  AlignmentSchedule alignment;
  /// Activations with a larger magnitude are refused.
  double activation_limit = 1e6;
  /// A client whose mean loss is above this is taken out of the step.
  double loss_limit = 1e4;
  /// U-shaped: largest value in one example's gradient with respect to the tail's outputs.
  double gradient_limit = 1e4;
  /// After so many messages that make no sense (not finite, of another shape, out of turn) nothing of a
  /// client is taken any more in this run; 0: never.
  int quarantine_after = 0;
  at::Device compute = at::kCPU;
  int64_t eval_batch_size = 500;

  /// Identifies the run in every message. Random, and without influence on what is learned.
  uint64_t run_id = 1;
  uint32_t incarnation = 1;

  /// Returns the plan as that client gets it: with its own cut.
  TrainingPlan plan_of(const ClientId& client) const;
  /// Throws std::invalid_argument naming the first bad field, or the combination that makes no sense.
  SessionOptions validated() const;
};

/// The planner that these options ask for, of a model that needs `minimum_batch` examples in a batch.
RoundPlannerOptions planner_options(const SessionOptions& options, uint32_t minimum_batch);

}  // namespace tandem::aggregator
