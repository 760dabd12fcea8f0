#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "tandem/core/planning/split_planner_detail.h"

namespace tandem::detail {
namespace {

constexpr double kTie = 1e-9;
/// For so many clients ties and the runner-up are searched exactly.
constexpr size_t kFewClients = 8;

std::vector<size_t> cuts_of(const std::vector<CutOption>& chosen) {
  std::vector<size_t> cuts;
  for (const CutOption& option : chosen) cuts.push_back(option.cut);
  return cuts;
}

/// What decides between plans whose steps are equally long.
struct TieKey {
  bool needs_aggregator = false;  ///< every client takes part, so this is the number of devices
  double bytes = 0;               ///< sent in a pass
  std::vector<size_t> cuts;       ///< in the clients' order

  bool comes_before(const TieKey& other) const {
    if (needs_aggregator != other.needs_aggregator) return other.needs_aggregator;
    if (std::abs(bytes - other.bytes) > kTie * std::max(bytes, other.bytes)) return bytes < other.bytes;
    return cuts < other.cuts;
  }
};

TieKey tie_key(const std::vector<CutOption>& chosen, size_t blocks) {
  TieKey key{.cuts = cuts_of(chosen)};
  for (const CutOption& option : chosen) {
    key.needs_aggregator = key.needs_aggregator || option.cut < blocks;
    key.bytes += option.bytes;
  }
  return key;
}

/// Among plans whose steps are equally long, moves to one that comes before the present one by changing the
/// cuts of one client, with few clients also of two or of all at once, as long as there is one.
class TieBreaker {
 public:
  TieBreaker(ServerKind kind, size_t blocks, const ClientOptions& options, SplitResult& result)
      : kind_(kind),
        blocks_(blocks),
        options_(options),
        result_(result),
        enough_(result.value * (1 + kTie)),
        key_(tie_key(chosen_options(options, result.choice), blocks)) {}

  void run() {
    while (try_all_solo() || try_changes()) {
    }
  }

 private:
  bool few() const { return options_.size() <= kFewClients; }

  bool accept(const Choice& choice) {
    const std::vector<CutOption> chosen = chosen_options(options_, choice);
    TieKey key = tie_key(chosen, blocks_);
    if (!key.comes_before(key_)) return false;
    const bool is_long = std::any_of(chosen.begin(), chosen.end(),
                                     [&](const CutOption& option) { return option.alone_ms() > enough_; });
    if (is_long || (few() ? step_ms(kind_, chosen) : quick_step_ms(kind_, chosen)) > enough_) return false;
    key_ = std::move(key);
    result_.choice = choice;
    return true;
  }

  bool try_all_solo() {
    const auto solo = few() ? choose_solo(options_, blocks_) : std::nullopt;
    return solo && accept(*solo);
  }

  bool try_changes() {
    for (size_t i = 0; i < options_.size(); ++i) {
      Choice choice = result_.choice;
      for (choice[i] = 0; choice[i] < options_[i].size(); ++choice[i]) {
        if (accept(choice) || (few() && try_second(choice, i + 1))) return true;
      }
    }
    return false;
  }

  /// Changes one more client, from `first` on.
  bool try_second(const Choice& changed, size_t first) {
    for (size_t j = first; j < options_.size(); ++j) {
      Choice choice = changed;
      for (choice[j] = 0; choice[j] < options_[j].size(); ++choice[j]) {
        if (accept(choice)) return true;
      }
    }
    return false;
  }

  ServerKind kind_;
  size_t blocks_;
  const ClientOptions& options_;
  SplitResult& result_;
  double enough_;
  TieKey key_;
};

SplitResult search(ServerKind kind, const ClientOptions& options) {
  return kind == ServerKind::kSequential ? plan_sequential(options) : plan_parallel_server(kind, options);
}

/// The best plan that differs in one client's cut.
std::optional<std::vector<CutOption>> best_neighbour(ServerKind kind, const ClientOptions& options,
                                                     const Choice& choice) {
  std::vector<CutOption> chosen = chosen_options(options, choice);
  std::optional<std::vector<CutOption>> best;
  double least = std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < options.size(); ++i) {
    const CutOption own = chosen[i];
    for (const CutOption& other : options[i]) {
      if (other.cut == own.cut || other.alone_ms() >= least) continue;
      chosen[i] = other;
      const double value = quick_step_ms(kind, chosen);
      if (value >= least) continue;
      least = value;
      best = chosen;
    }
    chosen[i] = own;
  }
  return best;
}

/// The best plan of all others: each has another cut for some client, so one search for each client without
/// its cut finds it.
std::optional<std::vector<CutOption>> best_other(ServerKind kind, const ClientOptions& options,
                                                 const Choice& choice) {
  std::optional<std::vector<CutOption>> best;
  double least = std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < options.size(); ++i) {
    if (options[i].size() < 2) continue;
    ClientOptions others = options;
    others[i].erase(others[i].begin() + static_cast<std::ptrdiff_t>(choice[i]));
    const SplitResult result = search(kind, others);
    if (result.value >= least) continue;
    least = result.value;
    best = chosen_options(others, result.choice);
  }
  return best;
}

std::optional<RunnerUp> next_best(ServerKind kind, const ClientOptions& options, const Choice& choice) {
  const auto best = options.size() <= kFewClients ? best_other(kind, options, choice)
                                                  : best_neighbour(kind, options, choice);
  if (!best) return std::nullopt;
  return RunnerUp{step_ms(kind, *best), {}, cuts_of(*best)};
}

/// Fills in what follows from the choice.
void set_choice(const Problem& problem, const ClientOptions& options, const Choice& choice, Plan& plan) {
  const std::vector<CutOption> chosen = chosen_options(options, choice);
  plan.goal = PlanObjective::kRound;
  plan.objective = step_ms(problem.split()->server, chosen, &plan.order);
  plan.cuts = cuts_of(chosen);
  plan.memory_bytes = split_memory(problem, plan.cuts);
  plan.terms.step_ms = *plan.objective;
  plan.terms.round_ms = round_ms(problem, plan.cuts, *plan.objective);
  for (const CutOption& option : chosen) {
    plan.terms.compute_ms += option.compute_ms;
    plan.terms.transfer_ms += option.transfer_ms;
  }
}

bool has_empty(const ClientOptions& options) {
  return std::any_of(options.begin(), options.end(), [](const auto& list) { return list.empty(); });
}

}  // namespace

Choice choose_alone(const ClientOptions& options) {
  Choice choice;
  for (const auto& list : options) {
    size_t best = 0;
    for (size_t c = 1; c < list.size(); ++c) {
      const double time = list[c].alone_ms();
      const double least = list[best].alone_ms();
      const bool is_tie = time <= least * (1 + kTie) && least <= time * (1 + kTie);
      if (is_tie ? list[c].bytes < list[best].bytes : time < least) best = c;
    }
    choice.push_back(best);
  }
  return choice;
}

std::optional<Choice> choose_common(ServerKind kind, const ClientOptions& options) {
  std::optional<Choice> best;
  double least = std::numeric_limits<double>::infinity();
  for (const CutOption& first : options[0]) {
    Choice choice;
    for (const auto& list : options) {
      const auto found = std::find_if(list.begin(), list.end(),
                                      [&](const CutOption& option) { return option.cut == first.cut; });
      if (found == list.end()) break;
      choice.push_back(static_cast<size_t>(found - list.begin()));
    }
    if (choice.size() < options.size()) continue;
    const double value = step_ms(kind, chosen_options(options, choice));
    if (value >= least * (1 - kTie)) continue;
    least = value;
    best = std::move(choice);
  }
  return best;
}

std::optional<Choice> choose_solo(const ClientOptions& options, size_t blocks) {
  Choice choice;
  for (const auto& list : options) {
    if (list.back().cut != blocks) return std::nullopt;
    choice.push_back(list.size() - 1);
  }
  return choice;
}

Plan plan_split(const Problem& problem) {
  Plan plan;
  plan.goal = PlanObjective::kRound;
  const ClientOptions options = cut_options(problem);
  if (has_empty(options)) {
    plan.reason = split_infeasible_reason(problem);
    return plan;
  }
  const ServerKind kind = problem.split()->server;
  SplitResult result = search(kind, options);
  const bool proved = result.lower_bound >= result.value * (1 - kTie);
  TieBreaker(kind, problem.size(), options, result).run();
  set_choice(problem, options, result.choice, plan);
  plan.status = proved ? PlanStatus::kOptimal : PlanStatus::kWithinGap;
  plan.lower_bound = proved ? *plan.objective : result.lower_bound;
  plan.runner_up = next_best(kind, options, result.choice);
  if (kind != ServerKind::kSequential) plan.order.clear();
  return plan;
}

const std::vector<std::string>& split_baseline_names() {
  static const std::vector<std::string> names{"solo", "neurosurgeon", "common"};
  return names;
}

Plan plan_split_baseline(const Problem& problem, const std::string& name) {
  Plan plan;
  plan.goal = PlanObjective::kRound;
  const ClientOptions options = cut_options(problem);
  std::optional<Choice> choice;
  if (!has_empty(options)) {
    if (name == "solo") choice = choose_solo(options, problem.size());
    if (name == "neurosurgeon") choice = choose_alone(options);
    if (name == "common") choice = choose_common(problem.split()->server, options);
  }
  if (!choice) return plan;
  set_choice(problem, options, *choice, plan);
  plan.status = PlanStatus::kHeuristic;
  return plan;
}

}  // namespace tandem::detail
