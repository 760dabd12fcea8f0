#include "tandem/aggregator/program/cut_plan.h"

#include <algorithm>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "tandem/aggregator/program/training_specifications.h"
#include "tandem/core/base/specification.h"
#include "tandem/core/base/text.h"
#include "tandem/core/data/data_description.h"
#include "tandem/core/planning/plan.h"
#include "tandem/core/planning/plan_text.h"
#include "tandem/core/profiling/plan_problem.h"
#include "tandem/core/run/run_directory.h"
#include "tandem/core/storage/atomic_file.h"

namespace tandem::aggregator {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

struct Wanted {
  bool per_client = false;
  fs::path from;
};

Error bad(const std::string& text) {
  return {ErrorCode::kInvalidArgument, "--cut: " + text};
}

/// What --cut asks for; nullopt where it says the cuts.
Result<std::optional<Wanted>> wanted_of(const std::string& cut) {
  const size_t colon = cut.find(':');
  const std::string name = cut.substr(0, colon);
  if (name != "auto" && name != "per-client") return std::optional<Wanted>();
  if (colon == std::string::npos || colon + 1 == cut.size()) {
    return bad(name + " needs what the plan is made of: " + name +
               ":DIR with the profiles that tandem-edge profile and tandem-aggregator profile write, or " +
               name + ":FILE with a problem (docs/planning.md)");
  }
  return std::optional(Wanted{name == "per-client", cut.substr(colon + 1)});
}

/// How the aggregator serves a step's clients under the run's schedule.
Result<std::string> server_of(const TrainingFlags& training) {
  const auto schedule = parse_algorithm(training.algorithm);
  if (!schedule) return schedule.error();
  switch (schedule->algorithm) {
    case Algorithm::kParallel:
      return std::string("joined");
    case Algorithm::kSplitFedV1:
    case Algorithm::kSplitFedV2:
      return std::string("sequential");
    default:
      return bad("there is no plan of --algorithm " + training.algorithm +
                 "; give the cut as a number, or take parallel, splitfed-v1 or splitfed-v2");
  }
}

/// Examples of a client in a step, where all have equally many.
int64_t share_of_a_client(const TrainingFlags& training, bool joined) {
  if (!joined) return training.batch_size;
  return (int64_t{training.batch_size} + training.clients - 1) / training.clients;
}

/// Profiles of other work say nothing of this run.
Result<void> check_work(const TrainingFlags& training, bool joined, const ProfileFingerprint& profiled) {
  const auto differs = [](const std::string& flag, const std::string& run, const std::string& profile) {
    return bad("the profiles are of " + flag + " " + profile + ", the run has " + run +
               "; profile again with " + flag + " " + run);
  };
  const std::string model = canonical_specification(training.model);
  if (profiled.model != model) return differs("--model", model, profiled.model);
  const int64_t batch = share_of_a_client(training, joined);
  if (profiled.batch_size != batch) {
    return bad("the profiles are of --batch-size " + std::to_string(profiled.batch_size) +
               ", and a client has " + std::to_string(batch) + " examples in a step of this run" +
               (joined ? " (--batch-size shared among --clients)" : "") +
               "; profile again with --batch-size " + std::to_string(batch));
  }
  const std::string optimizer = canonical_specification(training.optimizer);
  if (profiled.optimizer != optimizer) return differs("--optimizer", optimizer, profiled.optimizer);
  if (training.num_classes > 0 && training.num_classes != profiled.num_classes) {
    return differs("--num-classes", std::to_string(training.num_classes),
                   std::to_string(profiled.num_classes));
  }
  if (training.input_shape.empty()) return {};
  const auto shape = parse_shape("--input-shape", training.input_shape);
  if (!shape) return shape.error();
  if (*shape == profiled.input_shape) return {};
  return differs("--input-shape", shape_to_string(*shape), shape_to_string(profiled.input_shape));
}

Result<Problem> problem_of_profiles(const TrainingFlags& training, const fs::path& folder,
                                    const std::string& server) {
  const auto profiles = read_profiles(folder);
  if (!profiles) return bad(profiles.error().message);
  auto problem = planning_problem(*profiles, {.server = server, .steps = std::max(training.local_steps, 1U)});
  if (!problem) return bad(folder.string() + ": " + problem.error().message);
  if (auto same = check_work(training, server == "joined", profiles->front().fingerprint); !same)
    return same.error();
  return problem;
}

Result<Problem> problem_of_file(const fs::path& path) {
  const auto text = read_file(path);
  if (!text) return bad(text.error().message);
  auto problem = parse_problem(*text);
  if (!problem) return bad(path.string() + ": " + problem.error().message);
  if (problem->split() == nullptr)
    return bad(path.string() + " is a chain of devices; a run needs \"clients\" and an \"aggregator\"");
  return problem;
}

/// Cuts for the clients that the plan knows; nobody else can be planned for.
Result<ClientCuts> cuts_of(const Problem& problem, const Plan& plan) {
  std::string text;
  for (size_t i = 0; i < plan.cuts.size(); ++i) {
    text += problem.split()->clients[i].name + "=" + std::to_string(plan.cuts[i]) + ",";
  }
  // Whoever else joins gets the lowest of them, which asks least of a device.
  text += "*=" + std::to_string(*std::min_element(plan.cuts.begin(), plan.cuts.end()));
  return ClientCuts::parse(text);
}

/// Whether there is anything that the cuts of an earlier plan are needed for.
bool has_begun(const fs::path& run_dir) {
  std::error_code error;
  const bool has_checkpoints = !fs::is_empty(run_dir / "checkpoints", error) && !error;
  return has_checkpoints || RunDirectory::holds_results(run_dir);
}

Result<std::optional<CutPlan>> plan_of_earlier(const fs::path& run_dir) {
  const fs::path path = run_dir / RunDirectory::kPlanName;
  const auto text = read_file(path);
  if (!text && text.error().code == ErrorCode::kNotFound) return std::optional<CutPlan>();
  if (!text) return text.error();
  const Json json = Json::parse(*text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("cut") || !json["cut"].is_string()) {
    return bad(
        path.string() +
        " is damaged: it has no text \"cut\"; bring it back from a copy, or begin the run anew in another "
        "--run-dir");
  }
  const auto cuts = ClientCuts::parse(json["cut"].get<std::string>());
  if (!cuts) return bad(path.string() + ": " + cuts.error().message);
  return std::optional(CutPlan{*cuts, "", *text});
}

Result<std::optional<CutPlan>> make_or_find(const TrainingFlags& training) {
  const auto wanted = wanted_of(training.cut);
  if (!wanted) return wanted.error();
  if (!*wanted) return std::optional<CutPlan>();
  if (training.resume && has_begun(training.run_dir)) {
    auto earlier = plan_of_earlier(training.run_dir);
    if (!earlier || *earlier) return earlier;
  }
  const auto server = server_of(training);
  if (!server) return server.error();
  std::error_code error;
  const fs::path& from = (*wanted)->from;
  const auto problem =
      fs::is_directory(from, error) ? problem_of_profiles(training, from, *server) : problem_of_file(from);
  if (!problem) return problem.error();
  const size_t clients = problem->split()->clients.size();
  if (clients != static_cast<size_t>(training.clients)) {
    return bad("the plan is of " + std::to_string(clients) + " client(s) and --clients is " +
               std::to_string(training.clients));
  }
  const Plan plan = make_plan(*problem, {.planner = (*wanted)->per_client ? "exact" : "common"});
  if (!plan.feasible()) return bad("there is no plan: " + plan.reason);
  const auto cuts = cuts_of(*problem, plan);
  if (!cuts) return cuts.error();
  Json file = plan_json(plan);
  file["cut"] = cuts->text();
  return std::optional(CutPlan{*cuts, plan_table(*problem, plan), file.dump(1) + "\n"});
}

}  // namespace

Result<std::optional<CutPlan>> plan_cuts(TrainingFlags& training) {
  auto plan = make_or_find(training);
  if (plan && *plan) training.cut = (*plan)->cuts.text();
  return plan;
}

void keep_plan(const std::optional<CutPlan>& plan, const std::string& algorithm, RunRecorder& recorder) {
  if (!plan) return;
  recorder.set_plan_file(plan->file);
  Progress& progress = recorder.progress();
  if (plan->table.empty()) return progress.note("cut " + plan->cuts.text() + ", as the run's plan.json says");
  for (const std::string_view line : split(plan->table, '\n')) {
    if (!line.empty()) progress.note(std::string(line));
  }
  progress.note("cut " + plan->cuts.text() + "; where a model is cut changes what " + algorithm + " learns");
}

}  // namespace tandem::aggregator
