// An exhaustive search over every permitted plan of a small problem: what the planner's answers are checked
// against. It reads the problem's JSON by itself and shares no line with core/planning.
#pragma once

#include <cstddef>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace tandem::brute_force {

/// What a plan costs by the definitions, and what ranks it among plans of the same objective.
struct Cost {
  /// Milliseconds; infinite where no time is enough.
  double objective = std::numeric_limits<double>::infinity();
  /// The first rule that the plan breaks, in words; empty if it obeys all.
  std::string broken;
  /// Devices that hold at least one block, the aggregator among them.
  int devices = 0;
  /// Bytes of one forward pass: activations, input and return.
  double forward_bytes = 0;
  /// Bytes of one pass forward and, in training, one backward.
  double all_bytes = 0;
  /// Places in the file, one a stage (a chain) or one cut a client (clients).
  std::vector<int> ids;
  /// Chains only: the three sums that make up the latency.
  double compute_ms = 0;
  double transfer_ms = 0;
  double return_ms = 0;
  /// The memory of the blocks that each device holds, by name; the aggregator's is "aggregator".
  std::map<std::string, double> memory_bytes;
  /// Clients only: steps x step + the slowest client's weights up and down.
  double round_ms = 0;
};

/// The best of all plans, and how many there were.
struct Best {
  /// False if every plan breaks a rule.
  bool feasible = false;
  double objective = std::numeric_limits<double>::infinity();
  /// The objective of the next plan, which may be the same; infinite if there is none.
  double second = std::numeric_limits<double>::infinity();
  /// Ranked by each of the two readings of "bytes sent in one pass": Cost::forward_bytes, Cost::all_bytes.
  Cost by_forward_bytes;
  Cost by_all_bytes;
  /// Plans, or beginnings of some, that memory does not hold.
  size_t refused_for_memory = 0;
  size_t plans = 0;
};

/// Tries every plan. `objective` is latency, throughput or pipeline for a chain and round for clients.
/// Throws nlohmann::json::exception if `problem` lacks a field.
Best best_plan(const nlohmann::json& problem, const std::string& objective);

/// Costs one plan as the planner writes it: "stages" of a chain; "cuts" and, on a sequential server, "order"
/// of clients. A plan that is malformed has a rule broken, not an exception.
Cost cost_of(const nlohmann::json& problem, const std::string& objective, const nlohmann::json& plan);

/// Whether the two differ by at most `tolerance` times the larger one.
bool close(double a, double b, double tolerance = 1e-9);

}  // namespace tandem::brute_force
