// Small random problems for the planner: few enough plans to try them all, and full of what planners get
// wrong.
#pragma once

#include <cstdint>
#include <string>

#include <nlohmann/json.hpp>

namespace tandem::random_problems {

enum class Kind {
  kTwoNodes,  ///< P1: one client and the aggregator
  kChain,     ///< P2: 1 to 4 devices
  kClients,   ///< P3: 1 to 4 clients and the aggregator
};

struct RandomProblem {
  nlohmann::json problem;
  /// latency, throughput or pipeline for a chain, otherwise round.
  std::string objective;
};

/// Problem `number` of its kind: the same on every machine.
///
/// Consecutive numbers go through every server (kTwoNodes, kClients), or through every objective in inference
/// and in training (kChain). Of the problems about a third have ample memory, a third just enough for one
/// plan drawn by chance, and a third too little somewhere. Numbers are small integers (many ties), fractions,
/// or of many magnitudes; some are zero. Fields with a default are left out at times.
RandomProblem random_problem(Kind kind, uint64_t number);

}  // namespace tandem::random_problems
