#include "core/planning/brute_force.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <tuple>

#include "core/planning/brute_force_detail.h"

namespace tandem::brute_force {

const char* const kTooLittleMemory = "memory does not hold the blocks of ";

namespace {

bool is_clients(const nlohmann::json& problem) {
  return problem.contains("clients");
}

/// Sums of the same bytes in another order may differ in the last digits.
bool same_bytes(double a, double b) {
  return close(a, b, 1e-12);
}

bool ranks_before(const Cost& a, const Cost& b, double Cost::*bytes) {
  if (a.devices != b.devices) return a.devices < b.devices;
  if (!same_bytes(a.*bytes, b.*bytes)) return a.*bytes < b.*bytes;
  return a.ids < b.ids;
}

}  // namespace

bool close(double a, double b, double tolerance) {
  return a == b || std::abs(a - b) <= tolerance * std::max(std::abs(a), std::abs(b));
}

bool fits(double sum, double limit) {
  return sum <= limit * (1 + 1e-12);
}

void Ranking::add(Cost cost) {
  if (filter_ && !filter_(cost.ids)) return;
  ++counted_.plans;
  if (!cost.broken.empty()) {
    counted_.refused_for_memory += cost.broken.starts_with(kTooLittleMemory);
    return;
  }
  if (cost.objective > least_ && !close(cost.objective, least_)) return;
  least_ = std::min(least_, cost.objective);
  candidates_.push_back(std::move(cost));
}

Best Ranking::best() const {
  Best best = counted_;
  if (candidates_.empty()) return best;
  best.feasible = true;
  best.objective = least_;
  const auto pick = [&](double Cost::*bytes) {
    const Cost* first = nullptr;
    for (const Cost& candidate : candidates_) {
      if (!close(candidate.objective, least_)) continue;
      if (first == nullptr || ranks_before(candidate, *first, bytes)) first = &candidate;
    }
    return *first;
  };
  best.by_forward_bytes = pick(&Cost::forward_bytes);
  best.by_all_bytes = pick(&Cost::all_bytes);
  return best;
}

Best best_plan(const nlohmann::json& problem, const std::string& objective, const Filter& filter) {
  if (is_clients(problem) != (objective == "round")) throw std::invalid_argument("objective: " + objective);
  return is_clients(problem) ? best_clients(problem, filter) : best_chain(problem, objective, filter);
}

std::vector<int> up_to_equal_devices(const nlohmann::json& problem, const std::vector<int>& ids) {
  return is_clients(problem) ? ids : chain_up_to_equal_devices(problem, ids);
}

Cost cost_of(const nlohmann::json& problem, const std::string& objective, const nlohmann::json& plan) {
  if (is_clients(problem) != (objective == "round")) throw std::invalid_argument("objective: " + objective);
  return is_clients(problem) ? clients_cost_of(problem, plan) : chain_cost_of(problem, objective, plan);
}

}  // namespace tandem::brute_force
