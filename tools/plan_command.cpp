#include <cstdio>
#include <filesystem>
#include <string>
#include <utility>

#include <nlohmann/json.hpp>

#include "tandem/core/planning/plan.h"
#include "tandem/core/planning/plan_chart.h"
#include "tandem/core/planning/plan_text.h"
#include "tandem/core/profiling/plan_problem.h"
#include "tandem/core/program/flags.h"
#include "tandem/core/program/program.h"
#include "tandem/core/storage/atomic_file.h"
#include "tandem/tools/commands.h"

namespace tandem::tools {
namespace {

struct PlanFlags {
  std::filesystem::path problem;
  std::filesystem::path profiles;
  PlanProblemOptions of_profiles;
  PlanOptions options;
  std::filesystem::path plot;
  bool json = false;
  bool explain = false;
};

Error invalid(std::string message) {
  return {ErrorCode::kInvalidArgument, std::move(message)};
}

Result<Problem> problem_of_profiles(const PlanFlags& flags) {
  const auto profiles = read_profiles(flags.profiles);
  if (!profiles) return invalid("--profiles " + profiles.error().message);
  auto problem = planning_problem(*profiles, flags.of_profiles);
  if (!problem) return invalid("--profiles " + flags.profiles.string() + ": " + problem.error().message);
  return problem;
}

Result<Problem> open_problem(const PlanFlags& flags) {
  if (!flags.profiles.empty()) return problem_of_profiles(flags);
  const auto text = read_file(flags.problem);
  if (!text) return invalid(text.error().message);
  auto problem = parse_problem(*text);
  if (!problem) return invalid(flags.problem.string() + ": " + problem.error().message);
  return problem;
}

Result<int> plan_and_print(const PlanFlags& flags) {
  if (flags.problem.empty() == flags.profiles.empty()) {
    return invalid("give one problem file, or --profiles DIR with the profiles that the problem is made of");
  }
  const auto problem = open_problem(flags);
  if (!problem) return problem.error();
  Plan plan;
  try {
    plan = make_plan(*problem, flags.options);
  } catch (const ProblemError& error) {
    return Error{ErrorCode::kInvalidArgument, std::string("--") + error.what()};
  }
  if (flags.json) {
    const auto replace = nlohmann::json::error_handler_t::replace;
    std::printf("%s\n", plan_json(plan).dump(2, ' ', false, replace).c_str());
  } else {
    std::fputs(plan_table(*problem, plan).c_str(), stdout);
  }
  // Beside JSON the explanation goes where it disturbs nobody who reads the JSON.
  if (flags.explain) {
    std::fprintf(flags.json ? stderr : stdout, "\n%s", plan_explanation(*problem, plan).c_str());
  }
  if (!plan.feasible()) return kExitFailed;
  if (!flags.plot.empty()) {
    if (auto written = write_file_atomically(flags.plot, {plan_chart(*problem, plan)}); !written) {
      return written.error();
    }
  }
  return kExitDone;
}

}  // namespace

int plan_command(int argc, const char* const* argv) {
  Flags flags(
      "tandem plan",
      "Decides which blocks of a model run where. Exit status 0: there is a plan; 1: there is none; 2: the "
      "problem or a flag is wrong.");
  PlanFlags values;
  flags.add_positional("problem", values.problem, "A problem file, see docs/planning.md").may_be_left_out();
  flags.add_path("profiles", values.profiles,
                 "Instead of a problem file, a folder with the profiles of the clients and the aggregator");
  const auto without_profiles = [&values] { return values.profiles.empty(); };
  flags
      .add_choice(
          "server", values.of_profiles.server, {"joined", "sequential", "sharing", "uncontended"},
          "How the aggregator serves its clients: joined as parallel does, or sequential as splitfed-v2")
      .does_nothing("without --profiles", "the problem file says it", "", without_profiles);
  flags.add("steps", values.of_profiles.steps, "Steps of a client in a round")
      .between(1, 1e9)
      .does_nothing("without --profiles", "the problem file says it", "", without_profiles);
  flags.add(
      "objective", values.options.objective,
      "What to make short: latency, throughput, pipeline, or round; empty: latency for devices, round for "
      "clients");
  flags.add("planner", values.options.planner,
            "exact, or a baseline: solo, even, neurosurgeon, edgeshard, pipeedge, exo, llama-rpc, "
            "equal-time, common");
  flags.add("json", values.json, "Print the plan as JSON");
  flags.add("explain", values.explain, "Say for each place why it is this plan and not the next best");
  flags.add_path("plot", values.plot, "Write an SVG file: the time by cut, and a step as a Gantt chart");
  if (const auto status = flags.parse(argc, argv)) return *status;
  return run_program("tandem plan", 1, [&] { return plan_and_print(values); });
}

}  // namespace tandem::tools
