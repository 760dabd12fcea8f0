#include <algorithm>

#include "tandem/core/base/text.h"
#include "tandem/core/planning/chain_planner_detail.h"
#include "tandem/core/planning/chain_search_detail.h"

namespace tandem::detail {
namespace {

/// Plans so near to each other are ties.
constexpr double kTie = 1e-9;
/// The proof may take more than what comes after it.
constexpr size_t kMostLabels = 4'000'000;
constexpr size_t kFewerLabels = 400'000;
constexpr size_t kBeam = 24;

using Stages = std::vector<PlanStage>;

struct Candidate {
  std::optional<Stages> stages;
  double value = kNever;
};

/// The searches for one problem and one objective.
class ChainPlanner {
 public:
  ChainPlanner(const Problem& problem, PlanObjective objective)
      : problem_(problem), weights_(chain_weights(objective, *problem.chain())), model_(problem), tables_(model_) {}

  /// Finds the optimum, or what can be found within the limits.
  SearchResult find_best() {
    Candidate start;
    for (Stages& stages : simple_plans(problem_)) offer(std::move(stages), start);
    improve(start, search_contiguous(model_, weights_,
                                     {.threshold = start.value, .beam = kBeam, .rough = true}, tables_));
    if (weights_.latency > 0 && weights_.bottleneck > 0) {  // the hardest case: the less there is to search the better
      improve(start, search_contiguous(model_, weights_, {.threshold = start.value, .beam = kBeam}, tables_));
    }
    if (!problem_.chain()->contiguous) {
      improve(start, search_contiguous(model_, weights_,
                                       {.threshold = start.value, .most_labels = kFewerLabels}, tables_));
      improve(start, search_scattered(model_, weights_, {.threshold = start.value, .beam = kBeam}));
    }
    SearchResult result = search({.threshold = start.value, .most_labels = kMostLabels});
    if (start.stages && (!result.stages || start.value < result.value)) {
      result.stages = start.stages;
      result.value = start.value;
    }
    if (result.complete) result.lower_bound = result.value;
    result.lower_bound = std::min(result.lower_bound, result.value);
    return result;
  }

  /// Of all plans that tie with `best` the one that wins.
  Stages break_tie(const Stages& best, double value) {
    const SearchResult result =
        search({.threshold = value * (1 + kTie), .ties = true, .most_labels = kFewerLabels});
    return result.stages && wins_tie(problem_, *result.stages, best) ? *result.stages : best;
  }

  /// The best plan that is another one.
  SearchResult next_best(const Stages& best) {
    Candidate next;
    for (Stages& stages : neighbours(best)) offer(std::move(stages), next);
    SearchResult result = search({.threshold = next.value, .avoid = &best, .most_labels = kFewerLabels});
    improve(next, result);
    result.stages = next.stages;
    result.value = next.value;
    return result;
  }

 private:
  SearchResult search(const SearchGoal& goal) {
    return problem_.chain()->contiguous ? search_contiguous(model_, weights_, goal, tables_)
                                        : search_scattered(model_, weights_, goal);
  }

  void offer(Stages stages, Candidate& candidate) const {
    if (broken_constraint(problem_, stages)) return;
    const double value = weights_.value(chain_cost(problem_, stages));
    if (value >= candidate.value) return;
    candidate = {std::move(stages), value};
  }

  static void improve(Candidate& candidate, const SearchResult& found) {
    if (found.stages && found.value < candidate.value) candidate = {found.stages, found.value};
  }

  /// Plans with one boundary moved by one block, or one stage given to a neighbour.
  std::vector<Stages> neighbours(const Stages& best) const {
    const std::vector<size_t> devices = device_of_blocks(best, problem_.size());
    std::vector<Stages> near;
    for (size_t s = 0; s + 1 < best.size(); ++s) {
      std::vector<size_t> moved = devices;
      moved[best[s].last] = best[s + 1].device;
      near.push_back(stages_of(moved));
      moved = devices;
      moved[best[s + 1].first] = best[s].device;
      near.push_back(stages_of(moved));
      moved = devices;
      std::fill(moved.begin() + static_cast<std::ptrdiff_t>(best[s + 1].first),
                moved.begin() + static_cast<std::ptrdiff_t>(best[s + 1].last) + 1, best[s].device);
      near.push_back(stages_of(moved));
    }
    return near;
  }

  const Problem& problem_;
  const ChainWeights weights_;
  const ChainModel model_;
  SearchTables tables_;
};

bool is_feasible(const Problem& problem) {
  return ChainPlanner(problem, PlanObjective::kLatency).find_best().stages.has_value();
}

double memory_of_all(const Problem& problem) {
  double sum = 0;
  for (const PlanBlock& block : problem.blocks) sum += block.memory_bytes;
  return sum;
}

Problem without_memory_limits(Problem problem) {
  const double enough = memory_of_all(problem);
  for (PlanDevice& device : std::get<ChainPlaces>(problem.places).devices) device.limits.memory_bytes = enough;
  return problem;
}

Problem without_energy_limits(Problem problem) {
  for (PlanDevice& device : std::get<ChainPlaces>(problem.places).devices) device.limits.max_energy_mj = kNever;
  return problem;
}

Problem without_leakage_limit(Problem problem) {
  problem.leakage.clear();
  return problem;
}

Problem without_last_stage(Problem problem) {
  std::get<ChainPlaces>(problem.places).last_stage_on_source = false;
  return problem;
}

Problem without_front(Problem problem) {
  std::get<ChainPlaces>(problem.places).min_front_blocks = 0;
  return problem;
}

Problem scattered(Problem problem) {
  std::get<ChainPlaces>(problem.places).contiguous = false;
  return problem;
}

std::string memory_figures(const Problem& problem) {
  double there = 0;
  for (const PlanDevice& device : problem.chain()->devices) there += device.limits.memory_bytes;
  return "the blocks need " + number_text(memory_of_all(problem)) + " bytes, the devices have " + number_text(there) +
         " together";
}

}  // namespace

std::optional<Stages> best_stages(const Problem& problem, PlanObjective objective) {
  ChainPlanner planner(problem, objective);
  const SearchResult best = planner.find_best();
  if (!best.stages) return std::nullopt;
  return planner.break_tie(*best.stages, best.value);
}

void set_stages(const Problem& problem, Stages stages, Plan& plan) {
  const ChainCost cost = chain_cost(problem, stages);
  plan.objective = chain_weights(plan.goal, *problem.chain()).value(cost);
  plan.memory_bytes = chain_memory(problem, stages);
  plan.terms = {.compute_ms = cost.compute_ms,
                .transfer_ms = cost.transfer_ms,
                .return_ms = cost.return_ms,
                .step_ms = cost.latency_ms(),
                .bottleneck_ms = cost.throughput_ms()};
  plan.stages = std::move(stages);
}

Plan plan_chain(const Problem& problem, PlanObjective objective) {
  Plan plan;
  plan.goal = objective;
  ChainPlanner planner(problem, objective);
  const SearchResult best = planner.find_best();
  if (!best.stages) {
    plan.reason = best.complete ? chain_infeasible_reason(problem)
                                : "no plan was found within the search's limit; whether there is one is open";
    return plan;
  }
  // Where the next best plan is worse there is no tie to break.
  SearchResult next = planner.next_best(*best.stages);
  Stages stages = *best.stages;
  if (!next.complete || next.value <= best.value * (1 + kTie)) {
    stages = planner.break_tie(*best.stages, best.value);
    if (stages != *best.stages) next.stages = best.stages;
  }
  set_stages(problem, std::move(stages), plan);
  const bool proved = best.complete || best.lower_bound >= best.value * (1 - kTie);
  plan.status = proved ? PlanStatus::kOptimal : PlanStatus::kWithinGap;
  plan.lower_bound = proved ? *plan.objective : best.lower_bound;
  if (next.stages) {
    const double value = chain_weights(objective, *problem.chain()).value(chain_cost(problem, *next.stages));
    plan.runner_up = RunnerUp{value, *next.stages, {}};
  }
  return plan;
}

std::string chain_infeasible_reason(const Problem& problem) {
  const struct {
    const char* field;
    Problem (*relaxed)(Problem);
  } relaxations[] = {{"memory_bytes", without_memory_limits},    {"max_energy_mj", without_energy_limits},
                     {"max_leakage", without_leakage_limit},     {"last_stage_on_source", without_last_stage},
                     {"min_front_blocks", without_front},        {"contiguous", scattered}};
  for (const auto& [field, relaxed] : relaxations) {
    if (!is_feasible(relaxed(problem))) continue;
    const std::string figures = field == std::string("memory_bytes") ? ": " + memory_figures(problem) : "";
    return std::string("no plan obeys ") + field + figures + "; without this limit there would be one";
  }
  return "no plan obeys memory_bytes, max_energy_mj, max_leakage and the fixed stages together: " +
         memory_figures(problem);
}

}  // namespace tandem::detail
