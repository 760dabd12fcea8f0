// An exhaustive search over every permitted plan of a small problem: what the planner's answers are checked
// against. It reads the problem's JSON by itself and shares no line with core/planning.
#pragma once

#include <cstddef>
#include <functional>
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
  /// In a chain the devices that hold a block. Otherwise all clients, and the aggregator if it holds a block.
  int devices = 0;
  /// Bytes of one forward pass: activations, input and return.
  double forward_bytes = 0;
  /// Bytes of one pass forward and, in training, one backward.
  double all_bytes = 0;
  /// The device of each block, by its place in the file (a chain); the cut of each client (clients).
  std::vector<int> ids;
  /// The sums over all places; in a chain they make up the latency.
  double compute_ms = 0;
  double transfer_ms = 0;
  double return_ms = 0;
  /// The memory of the blocks that each device holds, by name; the aggregator's is "aggregator".
  std::map<std::string, double> memory_bytes;
  /// Chains only.
  double bottleneck_ms = 0;
  /// Clients only: steps x step + the slowest client's weights up and down.
  double round_ms = 0;
};

/// The best of all plans, and how many there were.
struct Best {
  /// False if every plan breaks a rule.
  bool feasible = false;
  double objective = std::numeric_limits<double>::infinity();
  /// Ranked by each of the two readings of "bytes sent in one pass": Cost::forward_bytes, Cost::all_bytes.
  Cost by_forward_bytes;
  Cost by_all_bytes;
  /// Plans, or beginnings of some, that memory does not hold.
  size_t refused_for_memory = 0;
  size_t plans = 0;
};

/// Says of Cost::ids whether a plan is looked at; empty for all plans.
using Filter = std::function<bool(const std::vector<int>& ids)>;

/// Tries every plan that passes `filter`. `objective` is latency, throughput or pipeline for a chain and
/// round for clients. Throws nlohmann::json::exception if `problem` lacks a field.
Best best_plan(const nlohmann::json& problem, const std::string& objective, const Filter& filter = {});

/// `ids` of a plan with devices that are equal in everything exchanged so that plans which differ in nothing
/// else become one. Clients are never exchanged.
std::vector<int> up_to_equal_devices(const nlohmann::json& problem, const std::vector<int>& ids);

/// Costs one plan as the planner writes it: "stages" of a chain; "cuts" and, on a sequential server, "order"
/// of clients. A plan that is malformed has a rule broken, not an exception.
Cost cost_of(const nlohmann::json& problem, const std::string& objective, const nlohmann::json& plan);

/// Whether the two differ by at most `tolerance` times the larger one.
bool close(double a, double b, double tolerance = 1e-9);

}  // namespace tandem::brute_force
