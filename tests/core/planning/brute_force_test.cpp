#include "core/planning/brute_force.h"

#include "core/planning/random_problems.h"
#include "support/test.h"

using nlohmann::json;
using tandem::random_problems::Kind;
using tandem::random_problems::random_problem;

namespace {

/// The same problem on devices without limits of memory.
json without_memory_limits(json problem) {
  for (const char* places : {"devices", "clients"}) {
    if (!problem.contains(places)) continue;
    for (json& place : problem[places]) place["memory_bytes"] = 1e30;
  }
  if (problem.contains("aggregator")) problem["aggregator"].erase("memory_bytes");
  return problem;
}

}  // namespace

TEST_SUITE("core/planning/brute_force") {
  TEST_CASE("a fifth of the random problems is infeasible, and in another fifth memory decides") {
    for (const auto kind : {Kind::kTwoNodes, Kind::kChain, Kind::kClients}) {
      CAPTURE(static_cast<int>(kind));
      int infeasible = 0, decided = 0;
      for (uint64_t number = 0; number < 500; ++number) {
        const auto [problem, objective] = random_problem(kind, number);
        const auto best = tandem::brute_force::best_plan(problem, objective);
        infeasible += !best.feasible;
        if (!best.feasible) continue;
        const auto unlimited = tandem::brute_force::best_plan(without_memory_limits(problem), objective);
        decided += !tandem::brute_force::close(unlimited.objective, best.objective);
      }
      CHECK(infeasible >= 100);
      CHECK(decided >= 100);
    }
  }
}
