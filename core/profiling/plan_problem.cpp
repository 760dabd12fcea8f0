#include "tandem/core/profiling/plan_problem.h"

#include <algorithm>
#include <set>
#include <system_error>
#include <utility>

namespace tandem {
namespace {

using Json = nlohmann::json;

Error invalid(std::string message) {
  return {ErrorCode::kInvalidArgument, std::move(message)};
}

/// Times of single blocks from those of ranges that grow by a block each.
Json differences(std::vector<double> growing) {
  Json times = Json::array();
  double before = 0;
  for (const double time : growing) {
    const double now = std::max(before, time);
    times.push_back(now - before);
    before = now;
  }
  return times;
}

Json times_of_prefixes(const ModelProfile& profile) {
  std::vector<double> forward;
  std::vector<double> backward;
  for (const RangeProfile& range : profile.prefixes) {
    forward.push_back(range.step.forward.median_ms);
    backward.push_back(range.step.backward.median_ms);
  }
  return {{"forward_ms", differences(forward)}, {"backward_ms", differences(backward)}};
}

Json times_of_suffixes(const ModelProfile& profile) {
  std::vector<double> forward;
  std::vector<double> backward;
  for (auto range = profile.suffixes.rbegin(); range != profile.suffixes.rend(); ++range) {
    forward.push_back(range->step.forward.median_ms);
    backward.push_back(range->step.backward.median_ms);
  }
  Json times{{"forward_ms", differences(forward)}, {"backward_ms", differences(backward)}};
  for (Json& list : times) std::reverse(list.begin(), list.end());
  return times;
}

Json place_of(const ModelProfile& profile, Json times) {
  times["optimiser_ms"] = Json::array();
  for (const BlockProfile& block : profile.blocks) times["optimiser_ms"].push_back(block.optimiser.median_ms);
  times["memory_bytes"] = profile.memory_bytes;
  return times;
}

Json blocks_of(const std::vector<ModelProfile>& profiles) {
  Json blocks = Json::array();
  for (size_t b = 0; b < profiles.front().blocks.size(); ++b) {
    const BlockProfile& first = profiles.front().blocks[b];
    int64_t memory = 0;
    for (const ModelProfile& profile : profiles) {
      const BlockProfile& block = profile.blocks[b];
      memory = std::max(
          memory, block.parameter_bytes + block.gradient_bytes + block.optimiser_bytes + block.saved_bytes);
    }
    blocks.push_back({{"name", first.name},
                      {"memory_bytes", memory},
                      {"output_bytes", first.output_bytes},
                      {"parameter_bytes", first.parameter_bytes}});
  }
  return blocks;
}

Result<void> check(const std::vector<ModelProfile>& profiles) {
  if (profiles.empty())
    return invalid("there are no profiles; tandem-edge profile and tandem-aggregator profile write them");
  std::set<std::string> names;
  int aggregators = 0;
  for (const ModelProfile& profile : profiles) {
    const std::string other = difference(profiles.front().fingerprint, profile.fingerprint, false);
    if (!other.empty()) {
      return invalid("the profiles of " + profiles.front().name + " and " + profile.name +
                     " are not of the same work: " + other + "; profile one of them again");
    }
    if (profile.blocks.size() != profiles.front().blocks.size()) {
      return invalid("the profiles of " + profiles.front().name + " and " + profile.name +
                     " have different numbers of blocks");
    }
    if (profile.role == "aggregator") {
      ++aggregators;
      continue;
    }
    if (!names.insert(profile.name).second) {
      return invalid("two profiles have the name " + profile.name + "; give --name when you profile");
    }
    if (profile.role == "helper") {
      return invalid(profile.name +
                     " is a helper: profiles do not hold the links between devices that a chain "
                     "needs; write them into a problem file");
    }
    if (!profile.link) {
      return invalid("the profile of " + profile.name +
                     " says nothing of its link, and nothing is guessed; give --link when you profile");
    }
  }
  if (aggregators != 1) {
    return invalid("there are " + std::to_string(aggregators) +
                   " profiles of an aggregator, expected one (tandem-aggregator profile)");
  }
  if (names.empty()) return invalid("there is no profile of a client (tandem-edge profile)");
  return {};
}

}  // namespace

Result<std::vector<ModelProfile>> read_profiles(const std::filesystem::path& folder) {
  std::error_code error;
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    if (entry.path().extension() == ".json") paths.push_back(entry.path());
  }
  if (error) return invalid(folder.string() + ": " + error.message());
  std::sort(paths.begin(), paths.end());
  std::vector<ModelProfile> profiles;
  for (const std::filesystem::path& path : paths) {
    auto profile = read_profile_file(path);
    if (!profile) return invalid(profile.error().message);
    profiles.push_back(std::move(*profile));
  }
  return profiles;
}

Result<Json> problem_of(const std::vector<ModelProfile>& profiles, const PlanProblemOptions& options) {
  if (auto checked = check(profiles); !checked) return checked.error();
  Json problem{{"blocks", blocks_of(profiles)},
               {"input_bytes", profiles.front().input_bytes},
               {"server", options.server},
               {"mode", "training"},
               {"clients", Json::array()}};
  for (const ModelProfile& profile : profiles) {
    if (profile.role == "aggregator") {
      problem["aggregator"] = place_of(profile, times_of_suffixes(profile));
      continue;
    }
    Json client = place_of(profile, times_of_prefixes(profile));
    client["name"] = profile.name;
    client["up_bytes_per_ms"] = profile.link->up_bytes_per_ms;
    client["down_bytes_per_ms"] = profile.link->down_bytes_per_ms;
    client["latency_ms"] = profile.link->latency_ms;
    client["steps"] = options.steps;
    problem["clients"].push_back(std::move(client));
  }
  return problem;
}

Result<Problem> planning_problem(const std::vector<ModelProfile>& profiles,
                                 const PlanProblemOptions& options) {
  const auto json = problem_of(profiles, options);
  if (!json) return json.error();
  try {
    return read_problem(*json);
  } catch (const ProblemError& error) {
    return invalid(error.what());
  }
}

}  // namespace tandem
