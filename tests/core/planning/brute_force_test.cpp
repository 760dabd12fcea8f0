// The planner against the brute force. TANDEM_BRUTE_FORCE_INSTANCES says how many problems of each kind; 500
// otherwise.
#include "core/planning/brute_force.h"

#include <cstdlib>
#include <map>
#include <optional>
#include <set>

#include "core/planning/brute_force_rules.h"
#include "core/planning/random_problems.h"
#include "support/test.h"
#include "tandem/core/planning/plan.h"

using nlohmann::json;
using tandem::brute_force::Best;
using tandem::brute_force::best_plan;
using tandem::brute_force::close;
using tandem::brute_force::Cost;
using tandem::brute_force::cost_of;
using tandem::brute_force::up_to_equal_devices;
using tandem::random_problems::Kind;
using tandem::random_problems::random_problem;
using tandem::random_problems::RandomProblem;

namespace {

const char* const kFindsNone = "this planner finds none";

uint64_t instances() {
  const char* text = std::getenv("TANDEM_BRUTE_FORCE_INSTANCES");
  return text == nullptr ? 500 : std::stoull(text);
}

bool is_chain(const RandomProblem& instance) {
  return instance.problem.contains("devices");
}

/// What is wrong with an answer; empty if nothing is.
using Complaints = std::vector<std::string>;

std::string numbers(const char* what, double expected, double found) {
  return json{{"what", what}, {"expected", expected}, {"found", found}}.dump();
}

void expect_close(Complaints& complaints, const char* what, double expected, double found) {
  if (!close(expected, found)) complaints.push_back(numbers(what, expected, found));
}

void check_infeasible(const json& plan, Complaints& complaints) {
  if (plan.at("status") != "infeasible")
    complaints.push_back("there is no plan, but the status is not infeasible");
  if (!plan.at("objective").is_null()) complaints.push_back("there is no plan, but an objective");
  if (plan.value("reason", "").empty()) complaints.push_back("there is no plan, and no reason");
}

/// The plan obeys all rules, costs what it says, and predicts the parts of it.
Cost check_cost(const RandomProblem& instance, const json& plan, Complaints& complaints) {
  const Cost cost = cost_of(instance.problem, instance.objective, plan);
  if (!cost.broken.empty()) {
    complaints.push_back("the plan breaks a rule: " + cost.broken);
    return cost;
  }
  expect_close(complaints, "cost of the plan", cost.objective, plan.at("objective"));
  for (const auto& [name, bytes] : plan.at("memory_bytes").items()) {
    const auto held = cost.memory_bytes.find(name);
    expect_close(complaints, "memory", held == cost.memory_bytes.end() ? 0 : held->second, bytes);
  }
  const json& terms = plan.at("terms");
  expect_close(complaints, "compute_ms", cost.compute_ms, terms.at("compute_ms"));
  expect_close(complaints, "transfer_ms", cost.transfer_ms, terms.at("transfer_ms"));
  expect_close(complaints, "return_ms", cost.return_ms, terms.at("return_ms"));
  if (is_chain(instance)) {
    expect_close(complaints, "step_ms", cost.compute_ms + cost.transfer_ms + cost.return_ms,
                 terms.at("step_ms"));
    expect_close(complaints, "bottleneck_ms", cost.bottleneck_ms, terms.at("bottleneck_ms"));
  } else {
    expect_close(complaints, "step_ms", cost.objective, terms.at("step_ms"));
    expect_close(complaints, "round_ms", cost.round_ms, terms.at("round_ms"));
  }
  return cost;
}

/// Fewer devices, then less data, then lower ids (in a chain block by block, otherwise the cuts client by
/// client), by one of the two readings of the data.
void check_ties(const Best& best, const Cost& cost, Complaints& complaints) {
  const auto as_good_as = [&](const Cost& first, double Cost::*bytes) {
    return cost.devices == first.devices && close(cost.*bytes, first.*bytes, 1e-12) && cost.ids == first.ids;
  };
  if (as_good_as(best.by_forward_bytes, &Cost::forward_bytes)) return;
  if (as_good_as(best.by_all_bytes, &Cost::all_bytes)) return;
  const auto words = [](const Cost& one) {
    return json{{"devices", one.devices}, {"bytes", one.forward_bytes}, {"ids", one.ids}}.dump();
  };
  complaints.push_back("a tie goes to " + words(best.by_forward_bytes) + ", not to " + words(cost));
}

/// The runner-up is the best of the plans that differ from the plan in more than which of equal devices is
/// taken.
void check_runner_up(const RandomProblem& instance, const json& plan, const Cost& cost,
                     Complaints& complaints) {
  const auto& [problem, objective] = instance;
  const auto chosen = up_to_equal_devices(problem, cost.ids);
  const Best others = best_plan(problem, objective, [&, &all = problem](const std::vector<int>& ids) {
    return up_to_equal_devices(all, ids) != chosen;
  });
  if (plan.at("runner_up").is_null()) {
    if (others.feasible) complaints.push_back("no runner-up");
    return;
  }
  const json& second = plan["runner_up"];
  const Cost cost_of_second = cost_of(problem, objective, second);
  if (!cost_of_second.broken.empty())
    complaints.push_back("the runner-up breaks a rule: " + cost_of_second.broken);
  if (up_to_equal_devices(problem, cost_of_second.ids) == chosen)
    complaints.push_back("the runner-up is the plan");
  expect_close(complaints, "cost of the runner-up", cost_of_second.objective, second.at("objective"));
  expect_close(complaints, "the next best plan", others.objective, second.at("objective"));
}

Complaints check_exact(const RandomProblem& instance, const Best& best, const json& plan) {
  Complaints complaints;
  if (!best.feasible) {
    check_infeasible(plan, complaints);
    return complaints;
  }
  if (plan.at("objective").is_null()) return {"there is a plan, and none was found"};
  const double objective = plan["objective"], lower_bound = plan.at("lower_bound");
  expect_close(complaints, "objective", best.objective, objective);
  if (lower_bound > best.objective && !close(lower_bound, best.objective)) {
    complaints.push_back(numbers("lower bound", best.objective, lower_bound));
  }
  if (plan.at("status") == "optimal") {
    expect_close(complaints, "lower bound of an optimal plan", objective, lower_bound);
  } else if (is_chain(instance) || plan["status"] != "within_gap") {
    complaints.push_back("status " + plan["status"].dump());
  }
  const Cost cost = check_cost(instance, plan, complaints);
  if (!complaints.empty()) return complaints;
  check_ties(best, cost, complaints);
  check_runner_up(instance, plan, cost, complaints);
  return complaints;
}

Complaints check_baseline(const RandomProblem& instance, const Best& best, const json& plan) {
  Complaints complaints;
  if (plan.at("objective").is_null()) {
    check_infeasible(plan, complaints);
    if (best.feasible && plan.value("reason", "") != kFindsNone)
      complaints.push_back("reason " + plan.dump());
    return complaints;
  }
  if (!best.feasible) return {"a baseline finds a plan where there is none"};
  if (plan.at("status") != "heuristic") complaints.push_back("status " + plan["status"].dump());
  const double objective = plan["objective"];
  if (objective < best.objective && !close(objective, best.objective)) {
    complaints.push_back(numbers("better than the best", best.objective, objective));
  }
  expect_close(complaints, "lower bound", best.objective, plan.at("lower_bound"));
  check_cost(instance, plan, complaints);
  return complaints;
}

/// The best of the plans that a baseline chooses from, where a rule says which these are.
std::optional<Best> best_of_rule(const RandomProblem& instance, const std::string& planner) {
  const auto& [problem, objective] = instance;
  if (!is_chain(instance)) {
    if (planner != "common") return std::nullopt;
    return best_plan(problem, objective, [](const std::vector<int>& cuts) {
      return std::set<int>(cuts.begin(), cuts.end()).size() == 1;
    });
  }
  int source = 0;
  while (problem["devices"][source]["name"] != problem["source"]) ++source;
  const auto others = [source](const std::vector<int>& devices) {
    std::set<int> all(devices.begin(), devices.end());
    all.erase(source);
    return all.size();
  };
  if (planner == "solo")
    return best_plan(problem, objective, [&](const auto& ids) { return others(ids) == 0; });
  if (planner != "neurosurgeon") return std::nullopt;
  return best_plan(problem, objective, [&](const auto& ids) { return others(ids) <= 1; });
}

void check_rule(const RandomProblem& instance, const std::string& planner, const json& plan,
                Complaints& complaints) {
  const std::optional<Best> best = best_of_rule(instance, planner);
  if (!best) return;
  if (best->feasible != !plan.at("objective").is_null()) {
    complaints.push_back(best->feasible ? "the rule has a plan" : "the rule has no plan");
  } else if (best->feasible) {
    expect_close(complaints, "the best by the rule", best->objective, plan["objective"]);
  }
}

/// The stages that a rule names, if these obey the problem's limits.
void check_stages(const RandomProblem& instance, const std::string& planner, const json& plan,
                  Complaints& complaints) {
  const std::optional<json> by_rule = tandem::brute_force::stages_by_rule(instance.problem, planner);
  if (!by_rule || !cost_of(instance.problem, instance.objective, *by_rule).broken.empty()) return;
  if (plan.value("stages", json()) != by_rule->at("stages"))
    complaints.push_back("the rule gives " + by_rule->dump());
}

json answer(const RandomProblem& instance, const std::string& planner) {
  const tandem::Problem problem = tandem::read_problem(instance.problem);
  return tandem::plan_json(tandem::make_plan(problem, {.objective = instance.objective, .planner = planner}));
}

/// Whether the planner plans problems of this kind at all.
bool suits(const RandomProblem& instance, const std::string& planner) {
  static const std::set<std::string> both = {"exact", "neurosurgeon"};
  if (both.count(planner) == 1) return true;
  return (planner == "common") != is_chain(instance);
}

/// All complaints about one planner's answer to one problem, with the problem.
std::string report(Kind kind, uint64_t number, const RandomProblem& instance, const std::string& planner,
                   const Best& best, const json& plan, const Complaints& complaints) {
  std::string text = planner + " on problem " + std::to_string(number) + " of kind " +
                     std::to_string(static_cast<int>(kind)) + ", objective " + instance.objective;
  for (const std::string& complaint : complaints) text += "\n  " + complaint;
  text += "\n  problem:     " + instance.problem.dump() + "\n  planner:     " + plan.dump();
  const json expected = {{"feasible", best.feasible},
                         {"objective", best.objective},
                         {"ids", best.by_forward_bytes.ids},
                         {"devices", best.by_forward_bytes.devices}};
  return text + "\n  brute force: " + expected.dump();
}

/// Compares every planner on every problem of a kind; says how many plans each planner found.
std::map<std::string, int> compare(Kind kind) {
  std::map<std::string, int> plans;
  for (uint64_t number = 0; number < instances(); ++number) {
    const RandomProblem instance = random_problem(kind, number);
    const Best best = best_plan(instance.problem, instance.objective);
    for (const std::string& planner : tandem::planner_names()) {
      if (!suits(instance, planner)) continue;
      json plan;
      Complaints complaints;
      try {
        plan = answer(instance, planner);
        complaints =
            planner == "exact" ? check_exact(instance, best, plan) : check_baseline(instance, best, plan);
        check_rule(instance, planner, plan, complaints);
        check_stages(instance, planner, plan, complaints);
        plans[planner] += !plan.at("objective").is_null();
      } catch (const std::exception& error) {
        complaints.push_back(error.what());
      }
      if (complaints.empty()) continue;
      FAIL_CHECK(report(kind, number, instance, planner, best, plan, complaints));
    }
  }
  return plans;
}

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
        const auto best = best_plan(problem, objective);
        infeasible += !best.feasible;
        if (!best.feasible) continue;
        decided += !close(best_plan(without_memory_limits(problem), objective).objective, best.objective);
      }
      CHECK(infeasible >= 100);
      CHECK(decided >= 100);
    }
  }

  TEST_CASE("the planner agrees with the brute force where one client cuts its model in two") {
    const auto plans = compare(Kind::kTwoNodes);
    for (const char* planner : {"exact", "neurosurgeon", "common"}) CHECK(plans.at(planner) > 0);
  }

  TEST_CASE("the planner agrees with the brute force on a chain of devices") {
    const auto plans = compare(Kind::kChain);
    for (const char* planner : {"exact", "solo", "even", "neurosurgeon", "edgeshard", "pipeedge", "exo",
                                "llama-rpc", "equal-time"}) {
      CAPTURE(planner);
      CHECK(plans.at(planner) > 0);
    }
  }

  TEST_CASE("the planner agrees with the brute force on clients of one server") {
    const auto plans = compare(Kind::kClients);
    for (const char* planner : {"exact", "neurosurgeon", "common"}) CHECK(plans.at(planner) > 0);
  }
}
