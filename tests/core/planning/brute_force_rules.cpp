#include "core/planning/brute_force_rules.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "core/planning/brute_force_detail.h"

namespace tandem::brute_force {
namespace {

using nlohmann::json;

/// `counts[i]` blocks on device `places[i]`, in this order.
json stages(const json& problem, const std::vector<int>& places, const std::vector<int>& counts) {
  json made = json::array();
  int first = 0;
  for (size_t i = 0; i < places.size(); ++i) {
    if (counts[i] == 0) continue;
    made.push_back({{"device", problem["devices"][places[i]]["name"]},
                    {"first", first},
                    {"last", first + counts[i] - 1}});
    first += counts[i];
  }
  return {{"stages", made}};
}

json even(const json& problem) {
  const int blocks = static_cast<int>(problem["blocks"].size());
  const int devices = static_cast<int>(problem["devices"].size());
  std::vector<int> places(devices), counts(devices, blocks / devices);
  std::iota(places.begin(), places.end(), 0);
  for (int i = 0; i < blocks % devices; ++i) ++counts[i];
  return stages(problem, places, counts);
}

/// Blocks in proportion to memory: the floor, and what remains to the largest fractions. Nothing if these are
/// equal.
std::optional<std::vector<int>> proportional(const json& problem, const std::vector<int>& places) {
  const int blocks = static_cast<int>(problem["blocks"].size());
  double total = 0;
  for (const int place : places) total += problem["devices"][place]["memory_bytes"].get<double>();
  if (total == 0) return std::nullopt;
  std::vector<int> counts, by_fraction(places.size());
  std::vector<double> fractions;
  for (const int place : places) {
    const double share = blocks * problem["devices"][place]["memory_bytes"].get<double>() / total;
    if (std::abs(share - std::round(share)) < 1e-9 && share != std::round(share)) return std::nullopt;
    counts.push_back(static_cast<int>(share));
    fractions.push_back(share - std::floor(share));
  }
  std::iota(by_fraction.begin(), by_fraction.end(), 0);
  std::sort(by_fraction.begin(), by_fraction.end(),
            [&](int a, int b) { return fractions[a] > fractions[b]; });
  const int remain = blocks - std::accumulate(counts.begin(), counts.end(), 0);
  if (remain > 0 && fractions[by_fraction[remain - 1]] - fractions[by_fraction[remain]] < 1e-9)
    return std::nullopt;
  for (int i = 0; i < remain; ++i) ++counts[by_fraction[i]];
  return counts;
}

/// Of the smallest sets that hold the model, the first device among them, the first in file order.
std::vector<int> smallest_set(const json& problem) {
  double model = 0;
  for (const json& block : problem["blocks"]) model += block["memory_bytes"].get<double>();
  const int devices = static_cast<int>(problem["devices"].size());
  std::vector<int> best;
  for (unsigned set = 1; set < 1u << devices; set += 2) {
    std::vector<int> places;
    double memory = 0;
    for (int i = 0; i < devices; ++i) {
      if ((set >> i & 1) == 0) continue;
      places.push_back(i);
      memory += problem["devices"][i]["memory_bytes"].get<double>();
    }
    if (!fits(model, memory)) continue;
    const auto rank = [](const std::vector<int>& one) { return std::make_pair(one.size(), one); };
    if (best.empty() || rank(places) < rank(best)) best = places;
  }
  return best;
}

}  // namespace

std::optional<json> stages_by_rule(const json& problem, const std::string& planner) {
  if (!problem.contains("devices") || problem["devices"][0]["name"] != problem["source"]) return std::nullopt;
  if (planner == "even") return even(problem);
  if (planner != "exo" && planner != "llama-rpc") return std::nullopt;
  std::vector<int> places(problem["devices"].size());
  std::iota(places.begin(), places.end(), 0);
  if (planner == "exo") places = smallest_set(problem);
  if (places.empty()) return std::nullopt;
  const auto counts = proportional(problem, places);
  if (!counts) return std::nullopt;
  // "At least one each" does not say whose block that is.
  if (planner == "exo" && std::count(counts->begin(), counts->end(), 0) > 0) return std::nullopt;
  return stages(problem, places, *counts);
}

}  // namespace tandem::brute_force
