#include <cstdio>
#include <filesystem>
#include <string>

#include <nlohmann/json.hpp>

#include "tandem/core/planning/plan.h"
#include "tandem/core/planning/plan_chart.h"
#include "tandem/core/planning/plan_text.h"
#include "tandem/core/program/flags.h"
#include "tandem/core/program/program.h"
#include "tandem/core/storage/atomic_file.h"
#include "tandem/tools/commands.h"

namespace tandem::tools {
namespace {

struct PlanFlags {
  std::filesystem::path problem;
  PlanOptions options;
  std::filesystem::path plot;
  bool json = false;
  bool explain = false;
};

Result<int> plan_and_print(const PlanFlags& flags) {
  const auto text = read_file(flags.problem);
  if (!text) return Error{ErrorCode::kInvalidArgument, text.error().message};
  const auto problem = parse_problem(*text);
  if (!problem) {
    return Error{ErrorCode::kInvalidArgument, flags.problem.string() + ": " + problem.error().message};
  }
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
  Flags flags("tandem plan",
              "Decides which blocks of a model run where. Exit status 0: there is a plan; 1: there is none; 2: the "
              "problem or a flag is wrong.");
  PlanFlags values;
  flags.add_positional("problem", values.problem, "A problem file, see docs/planning.md");
  flags.add("objective", values.options.objective,
            "What to make short: latency, throughput, pipeline, or round; empty: latency for devices, round for "
            "clients");
  flags.add("planner", values.options.planner,
            "exact, or a baseline: solo, even, neurosurgeon, edgeshard, pipeedge, exo, llama-rpc, equal-time, common");
  flags.add("json", values.json, "Print the plan as JSON");
  flags.add("explain", values.explain, "Say for each place why it is this plan and not the next best");
  flags.add_path("plot", values.plot, "Write an SVG file: the time by cut, and a step as a Gantt chart");
  if (const auto status = flags.parse(argc, argv)) return *status;
  return run_program("tandem plan", 1, [&] { return plan_and_print(values); });
}

}  // namespace tandem::tools
