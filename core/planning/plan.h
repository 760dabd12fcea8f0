#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "tandem/core/planning/problem.h"

namespace tandem {

/// What a plan makes small.
enum class PlanObjective {
  kDefault,     ///< latency for a chain, round for clients
  kLatency,     ///< the time of one pass through the chain
  kThroughput,  ///< the time between two passes when passes overlap: the bottleneck
  kPipeline,    ///< latency + (micro_batches - 1) x throughput
  kRound,       ///< the time of one step in which every client takes part once
};

enum class PlanStatus {
  kOptimal,     ///< proved: nothing is better
  kWithinGap,   ///< the search stopped at its limit; nothing is better than lower_bound
  kHeuristic,   ///< what a baseline's rule gives
  kInfeasible,  ///< there is no such plan; `reason` says which constraint fails
};

/// The blocks first ... last, both included, on one device.
struct PlanStage {
  size_t device = 0;
  size_t first = 0;
  size_t last = 0;

  bool operator==(const PlanStage&) const = default;
};

/// The parts of a prediction, in ms.
struct PlanTerms {
  double compute_ms = 0;   ///< the sum over all places
  double transfer_ms = 0;  ///< the sum over all transfers but the return
  double return_ms = 0;
  double step_ms = 0;                   ///< one pass through the chain, or one step of all clients
  std::optional<double> bottleneck_ms;  ///< of a chain
  std::optional<double> round_ms;  ///< of clients: steps x step + the slowest client's weights up and down
};

/// The next best plan. It differs from the plan in at least one block's place. Plans of a chain that differ
/// only in which of equal devices holds the blocks count as one. With more than 8 clients it is the best that
/// differs in one client's cut.
struct RunnerUp {
  double objective = 0;
  std::vector<PlanStage> stages;  ///< of a chain
  std::vector<size_t> cuts;       ///< of clients
};

/// An answer. Stages are those of a chain; cuts and the order those of clients.
struct Plan {
  PlanStatus status = PlanStatus::kInfeasible;
  PlanObjective goal = PlanObjective::kLatency;
  std::string planner = "exact";
  std::optional<double> objective;    ///< ms; nothing when infeasible
  std::optional<double> lower_bound;  ///< ms; nothing when no plan exists
  std::string reason;                 ///< why there is no plan, else empty

  std::vector<PlanStage> stages;
  std::vector<size_t> cuts;          ///< for each client
  std::vector<size_t> order;         ///< clients in the order in which a sequential server serves them
  std::vector<double> memory_bytes;  ///< for each device, or each client and then the aggregator
  PlanTerms terms;
  std::optional<RunnerUp> runner_up;

  /// Of the devices in file order, or of the clients and then "aggregator".
  std::vector<std::string> place_names;

  bool feasible() const { return objective.has_value(); }
  /// (objective - lower_bound) / objective; 0 for an objective of 0. Requires feasible().
  double gap() const;
};

/// What to look for, and how. The names are those of the command line.
struct PlanOptions {
  /// "latency", "throughput", "pipeline", "round", or empty for the problem's default.
  std::string objective;
  /// "exact" or the name of a baseline, see planner_names().
  std::string planner = "exact";
};

/// The names of all planners, "exact" first.
const std::vector<std::string>& planner_names();

/// Plans. The answer is deterministic; of plans within 1e-9 of each other it is the one with fewer devices,
/// then with fewer bytes sent in one pass, then with lower ids. Throws ProblemError naming `objective` or
/// `planner` for a name that does not exist or does not fit the problem.
Plan make_plan(const Problem& problem, const PlanOptions& options = {});

/// What `tandem plan --json` prints.
nlohmann::json plan_json(const Plan& plan);

}  // namespace tandem
