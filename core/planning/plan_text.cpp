#include "tandem/core/planning/plan_text.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "tandem/core/planning/chain_cost.h"
#include "tandem/core/planning/split_cost.h"
#include "tandem/core/run/progress.h"
#include "tandem/core/run/progress_format_detail.h"

namespace tandem {
namespace {

using Row = std::vector<std::string>;

std::string ms(double value) {
  return detail::format_fixed(value, 3) + " ms";
}

std::string bytes(double value) {
  return format_bytes(detail::to_whole(value));
}

size_t columns_of(const std::string& text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

/// Columns, the first to the left, the others to the right.
std::string aligned(const std::vector<Row>& rows) {
  std::vector<size_t> widths;
  for (const Row& row : rows) {
    widths.resize(std::max(widths.size(), row.size()), 0);
    for (size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], columns_of(row[c]));
  }
  std::string text;
  for (const Row& row : rows) {
    for (size_t c = 0; c < row.size(); ++c) {
      const std::string space(widths[c] - columns_of(row[c]), ' ');
      text += (c > 0 ? "  " : "") + (c == 0 ? row[c] + space : space + row[c]);
    }
    text += '\n';
  }
  return text;
}

std::string goal_name(const Plan& plan) {
  switch (plan.goal) {
    case PlanObjective::kThroughput: return "time between two passes";
    case PlanObjective::kPipeline: return "pipeline of all micro-batches";
    case PlanObjective::kRound: return "one step of all clients";
    default: return "one pass";
  }
}

std::string certificate(const Plan& plan) {
  if (plan.status == PlanStatus::kOptimal) return "optimal: no plan is better";
  if (!plan.lower_bound) return "found by the rule of " + plan.planner;
  const std::string bound = "no plan is below " + ms(*plan.lower_bound) + " (gap " +
                            detail::format_fixed(100 * plan.gap(), 2) + " %)";
  return plan.status == PlanStatus::kHeuristic ? "found by the rule of " + plan.planner + "; " + bound : bound;
}

std::string range_of(const Problem& problem, size_t first, size_t last) {
  const std::string name = detail::printable(problem.blocks[first].name);
  return first == last ? name : name + " ... " + detail::printable(problem.blocks[last].name);
}

std::string numbers_of(size_t first, size_t last) {
  return first == last ? std::to_string(first) : std::to_string(first) + "-" + std::to_string(last);
}

/// The forward and backward time of a stage.
double stage_ms(const Problem& problem, const PlanStage& stage) {
  const BlockTimes& times = problem.chain()->devices[stage.device].times;
  double sum = 0;
  for (size_t i = stage.first; i <= stage.last; ++i) sum += times.forward_ms[i] + times.backward_ms[i];
  return sum;
}

std::string chain_rows(const Problem& problem, const Plan& plan) {
  std::vector<Row> rows{{"device", "blocks", "from ... to", "compute", "memory"}};
  for (const PlanStage& stage : plan.stages) {
    rows.push_back({detail::printable(plan.place_names[stage.device]), numbers_of(stage.first, stage.last),
                    range_of(problem, stage.first, stage.last), ms(stage_ms(problem, stage)),
                    bytes(plan.memory_bytes[stage.device])});
  }
  return aligned(rows);
}

/// Clients in the order in which they are served.
std::vector<size_t> shown_order(const Plan& plan) {
  if (!plan.order.empty()) return plan.order;
  std::vector<size_t> order;
  for (size_t i = 0; i < plan.cuts.size(); ++i) order.push_back(i);
  return order;
}

std::string split_rows(const Problem& problem, const Plan& plan) {
  std::vector<Row> rows{{"client", "cut", "until served", "server", "after", "memory"}};
  for (const size_t i : shown_order(plan)) {
    const CutOption option = cut_option(problem, i, plan.cuts[i]);
    rows.push_back({detail::printable(plan.place_names[i]), std::to_string(option.cut), ms(option.before_ms),
                    ms(option.server_ms), ms(option.after_ms), bytes(plan.memory_bytes[i])});
  }
  rows.push_back({"aggregator", "", "", "", "", bytes(plan.memory_bytes.back())});
  return aligned(rows);
}

/// "blocks 0-3, 7" on one device.
std::string held(const std::vector<PlanStage>& stages, size_t device) {
  std::string text;
  for (const PlanStage& stage : stages) {
    if (stage.device == device) text += (text.empty() ? "" : ", ") + numbers_of(stage.first, stage.last);
  }
  return text.empty() ? "nothing" : "blocks " + text;
}

double busy_ms(const Problem& problem, const std::vector<PlanStage>& stages, size_t device) {
  double sum = 0;
  for (const PlanStage& stage : stages) {
    if (stage.device == device) sum += stage_ms(problem, stage);
  }
  return sum;
}

std::string explain_chain(const Problem& problem, const Plan& plan) {
  std::string text;
  const std::vector<PlanStage> none;
  const auto& other = plan.runner_up ? plan.runner_up->stages : none;
  for (size_t d = 0; d < plan.place_names.size(); ++d) {
    const std::string mine = held(plan.stages, d);
    const std::string theirs = held(other, d);
    if (mine == "nothing" && theirs == "nothing") continue;
    text += detail::printable(plan.place_names[d]) + ": " + mine + ", " + ms(busy_ms(problem, plan.stages, d));
    if (plan.runner_up) {
      text += mine == theirs ? "; the same in the next best plan"
                             : "; in the next best plan " + theirs + ", " + ms(busy_ms(problem, other, d));
    }
    text += '\n';
  }
  return text;
}

std::string explain_split(const Problem& problem, const Plan& plan) {
  std::string text;
  for (size_t i = 0; i < plan.cuts.size(); ++i) {
    const CutOption option = cut_option(problem, i, plan.cuts[i]);
    text += detail::printable(plan.place_names[i]) + ": cut " + std::to_string(option.cut) + ", " +
            ms(option.alone_ms()) + " by itself";
    if (plan.runner_up && plan.runner_up->cuts[i] != option.cut) {
      const CutOption other = cut_option(problem, i, plan.runner_up->cuts[i]);
      text += "; in the next best plan cut " + std::to_string(other.cut) + ", " + ms(other.alone_ms());
    } else if (plan.runner_up) {
      text += "; the same in the next best plan";
    }
    text += '\n';
  }
  return text;
}

}  // namespace

std::string plan_table(const Problem& problem, const Plan& plan) {
  if (!plan.feasible()) return "no plan: " + detail::printable(plan.reason) + "\n";
  std::string text = goal_name(plan) + ": " + ms(*plan.objective) + ", " + certificate(plan) + "\n\n";
  text += problem.chain() ? chain_rows(problem, plan) : split_rows(problem, plan);
  std::vector<Row> terms{{"compute", ms(plan.terms.compute_ms)}, {"transfers", ms(plan.terms.transfer_ms)}};
  if (plan.terms.return_ms > 0) terms.push_back({"return", ms(plan.terms.return_ms)});
  if (plan.terms.bottleneck_ms) terms.push_back({"bottleneck", ms(*plan.terms.bottleneck_ms)});
  if (plan.terms.round_ms) terms.push_back({"a round", ms(*plan.terms.round_ms)});
  if (plan.runner_up) terms.push_back({"next best", ms(plan.runner_up->objective)});
  return text + "\n" + aligned(terms);
}

std::string plan_explanation(const Problem& problem, const Plan& plan) {
  if (!plan.feasible()) return "";
  std::string text = problem.chain() ? explain_chain(problem, plan) : explain_split(problem, plan);
  if (!plan.runner_up) return text + "there is no other plan to compare with\n";
  const double more = plan.runner_up->objective - *plan.objective;
  return text + "the next best plan takes " + ms(more) + " more\n";
}

}  // namespace tandem
