#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "tandem/core/base/result.h"
#include "tandem/core/planning/problem.h"
#include "tandem/core/profiling/model_profile.h"

namespace tandem {

/// Reads the profiles in a folder: every file that ends in .json, in alphabetical order. Errors name the
/// folder or the file.
Result<std::vector<ModelProfile>> read_profiles(const std::filesystem::path& folder);

/// What a plan asks for beyond the profiles.
struct PlanProblemOptions {
  /// How the aggregator serves its clients: sequential, joined, sharing or uncontended.
  std::string server = "joined";
  uint64_t steps = 1;  ///< of each client in a round, >= 1
};

/// Makes the planning problem, in the format of docs/planning.md, of the profiles of one aggregator and its
/// clients. A client's times are those of its prefixes and the aggregator's those of its suffixes, taken
/// apart into blocks so that every range adds up to what was measured of it; where a longer range was
/// measured faster than a shorter one, it counts as the shorter one. Memory is weights, gradients, optimiser
/// state and what a step saves. kInvalidArgument names the profile that is missing, that is of another model
/// or settings, that has no link, or whose name occurs twice.
Result<nlohmann::json> problem_of(const std::vector<ModelProfile>& profiles,
                                  const PlanProblemOptions& options);
/// Makes the same problem, ready to be planned.
Result<Problem> planning_problem(const std::vector<ModelProfile>& profiles,
                                 const PlanProblemOptions& options);

}  // namespace tandem
