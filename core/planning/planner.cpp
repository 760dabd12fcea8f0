#include <algorithm>

#include "tandem/core/base/wording_detail.h"
#include "tandem/core/planning/chain_planner_detail.h"
#include "tandem/core/planning/plan.h"
#include "tandem/core/planning/split_planner_detail.h"

namespace tandem {
namespace {

const char kExact[] = "exact";

struct NamedObjective {
  const char* name;
  PlanObjective objective;
};

constexpr NamedObjective kObjectives[] = {{"latency", PlanObjective::kLatency},
                                          {"throughput", PlanObjective::kThroughput},
                                          {"pipeline", PlanObjective::kPipeline},
                                          {"round", PlanObjective::kRound}};

PlanObjective objective_for(const Problem& problem, const std::string& name) {
  const bool has_clients = problem.split() != nullptr;
  if (name.empty()) return has_clients ? PlanObjective::kRound : PlanObjective::kLatency;
  std::vector<std::string> names;
  for (const NamedObjective& known : kObjectives) {
    names.emplace_back(known.name);
    if (name != known.name) continue;
    if (has_clients == (known.objective == PlanObjective::kRound)) return known.objective;
    throw ProblemError("objective", has_clients ? "must be round in a problem with clients, got \"" + name + '"'
                                                : "round needs a problem with clients, this one has devices");
  }
  throw ProblemError("objective", "must be one of " + detail::joined(names) + ", got " +
                                      detail::in_quotes(name) + detail::did_you_mean(name, names));
}

void check_planner(const Problem& problem, const std::string& name) {
  const auto& all = planner_names();
  if (std::find(all.begin(), all.end(), name) == all.end()) {
    throw ProblemError("planner", "must be one of " + detail::joined(all) + ", got " +
                                      detail::in_quotes(name) + detail::did_you_mean(name, all));
  }
  const auto& fitting = problem.split() ? detail::split_baseline_names() : detail::chain_baseline_names();
  if (name == kExact || std::find(fitting.begin(), fitting.end(), name) != fitting.end()) return;
  throw ProblemError("planner", name + " cannot plan for " + (problem.split() ? "clients" : "devices") +
                                    "; for these there are exact, " + detail::joined(fitting));
}

std::vector<std::string> names_of_places(const Problem& problem) {
  std::vector<std::string> names;
  if (const ChainPlaces* chain = problem.chain()) {
    for (const PlanDevice& device : chain->devices) names.push_back(device.name);
    return names;
  }
  for (const PlanClient& client : problem.split()->clients) names.push_back(client.name);
  names.emplace_back("aggregator");
  return names;
}

Plan plan_exactly(const Problem& problem, PlanObjective objective) {
  return problem.split() ? detail::plan_split(problem) : detail::plan_chain(problem, objective);
}

Plan plan_by_rule(const Problem& problem, PlanObjective objective, const std::string& name) {
  if (problem.split()) return detail::plan_split_baseline(problem, name);
  Plan plan;
  plan.goal = objective;
  auto stages = detail::baseline_stages(problem, objective, name);
  if (!stages) return plan;
  detail::set_stages(problem, std::move(*stages), plan);
  plan.status = PlanStatus::kHeuristic;
  return plan;
}

}  // namespace

double Plan::gap() const {
  if (!lower_bound || *objective <= 0) return 0;
  return std::max(0.0, (*objective - *lower_bound) / *objective);
}

const std::vector<std::string>& planner_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all{kExact};
    for (const auto* list : {&detail::chain_baseline_names(), &detail::split_baseline_names()}) {
      for (const std::string& name : *list) {
        if (std::find(all.begin(), all.end(), name) == all.end()) all.push_back(name);
      }
    }
    return all;
  }();
  return names;
}

Plan make_plan(const Problem& problem, const PlanOptions& options) {
  const PlanObjective objective = objective_for(problem, options.objective);
  check_planner(problem, options.planner);
  Plan plan = plan_exactly(problem, objective);
  if (options.planner != kExact) {
    const std::optional<double> lower_bound = plan.lower_bound;
    plan = plan_by_rule(problem, objective, options.planner);
    plan.lower_bound = lower_bound;
    if (!plan.feasible()) plan.reason = "this planner finds none";
  }
  plan.planner = options.planner;
  plan.place_names = names_of_places(problem);
  return plan;
}

}  // namespace tandem
