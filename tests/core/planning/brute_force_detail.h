// The two kinds of problem behind brute_force.h.
#pragma once

#include "core/planning/brute_force.h"

namespace tandem::brute_force {

/// Keeps the best of the plans handed in, by the tie rule: within 1e-9 of the best objective fewer devices,
/// then fewer bytes, then lower ids.
class Ranking {
 public:
  explicit Ranking(const Filter& filter) : filter_(filter) {}

  /// `broken` plans only count; those that do not pass the filter do not even that.
  void add(Cost cost);
  /// Counts a beginning that memory does not hold.
  void refuse_for_memory() { ++counted_.refused_for_memory; }
  Best best() const;

 private:
  const Filter& filter_;
  /// Every plan that obeys all rules and was within 1e-9 of the best when it came.
  std::vector<Cost> candidates_;
  double least_ = std::numeric_limits<double>::infinity();
  Best counted_;
};

/// What Cost::broken says where memory does not hold the blocks.
extern const char* const kTooLittleMemory;

/// "Memory fits if the sum <= limit x (1 + 1e-12)"; energy alike.
bool fits(double sum, double limit);

Best best_chain(const nlohmann::json& problem, const std::string& objective, const Filter& filter);
std::vector<int> chain_up_to_equal_devices(const nlohmann::json& problem, const std::vector<int>& ids);
Cost chain_cost_of(const nlohmann::json& problem, const std::string& objective, const nlohmann::json& plan);
Best best_clients(const nlohmann::json& problem, const Filter& filter);
Cost clients_cost_of(const nlohmann::json& problem, const nlohmann::json& plan);

}  // namespace tandem::brute_force
