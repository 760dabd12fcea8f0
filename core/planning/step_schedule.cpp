#include <algorithm>

#include "tandem/core/planning/chain_cost.h"
#include "tandem/core/planning/split_cost.h"
#include "tandem/core/planning/step_schedule_detail.h"

namespace tandem::detail {
namespace {

double sum_of(const std::vector<double>& times, size_t first, size_t end) {
  double sum = 0;
  for (size_t i = first; i < end; ++i) sum += times[i];
  return sum;
}

/// Bars one after the other.
class Timeline {
 public:
  void add(size_t row, double length, StepPart part, std::string what) {
    if (length > 0) bars_.push_back({row, now_, length, part, std::move(what)});
    now_ += length;
  }
  std::vector<StepBar> take() { return std::move(bars_); }

 private:
  double now_ = 0;
  std::vector<StepBar> bars_;
};

std::string blocks_text(const PlanStage& stage) {
  return "blocks " + std::to_string(stage.first) + "-" + std::to_string(stage.last);
}

/// One pass through the stages, forward and, in training, backward.
std::vector<StepBar> chain_bars(const Problem& problem, const std::vector<PlanStage>& stages) {
  const ChainPlaces& chain = *problem.chain();
  Timeline line;
  size_t at = chain.source;
  for (const PlanStage& stage : stages) {
    if (stage.device != at) {
      const double bytes = bytes_before(problem, stage.first);
      line.add(at, transfer_ms(chain.link(at, stage.device), bytes), StepPart::kTransfer, "activation");
    }
    at = stage.device;
    line.add(at, sum_of(chain.devices[at].times.forward_ms, stage.first, stage.last + 1), StepPart::kForward,
             blocks_text(stage) + " forward");
  }
  if (!problem.training) {
    const bool returns = at != chain.source && chain.return_bytes > 0;
    if (returns) {
      line.add(at, transfer_ms(chain.link(at, chain.source), chain.return_bytes), StepPart::kTransfer, "return");
    }
    return line.take();
  }
  for (size_t s = stages.size(); s-- > 0;) {
    const PlanStage& stage = stages[s];
    line.add(stage.device, sum_of(chain.devices[stage.device].times.backward_ms, stage.first, stage.last + 1),
             StepPart::kBackward, blocks_text(stage) + " backward");
    if (s == 0) break;
    const double bytes = bytes_before(problem, stage.first);
    line.add(stage.device, transfer_ms(chain.link(stage.device, stages[s - 1].device), bytes),
             StepPart::kTransfer, "gradient");
  }
  return line.take();
}

/// The parts of a client's step with one cut, as if it were alone.
std::vector<StepBar> client_parts(const Problem& problem, size_t client, const CutOption& option, size_t row,
                                  size_t server_row) {
  const BlockTimes& times = problem.split()->clients[client].times;
  const double forward = sum_of(times.forward_ms, 0, option.cut);
  const double backward =
      sum_of(times.backward_ms, 0, option.cut) + sum_of(times.optimiser_ms, 0, option.cut);
  const double up = option.before_ms - forward;
  Timeline line;
  line.add(row, forward, StepPart::kForward, "front forward");
  line.add(row, up, StepPart::kTransfer, "activation");
  line.add(server_row, option.server_ms, StepPart::kServer, "server");
  line.add(row, option.transfer_ms - up, StepPart::kTransfer, "gradient");
  line.add(row, option.cut == 0 ? 0 : backward, StepPart::kBackward, "front backward");
  return line.take();
}

/// When the server begins with each client, and for how long.
struct Service {
  double start_ms;
  double length_ms;
};

std::vector<Service> services(const Problem& problem, const Plan& plan,
                              const std::vector<CutOption>& chosen) {
  std::vector<Service> list(chosen.size());
  const ServerKind kind = problem.split()->server;
  double now = 0;
  double total = 0;
  for (const CutOption& option : chosen) total += option.server_ms;
  if (kind == ServerKind::kJoined) {
    for (const CutOption& option : chosen) now = std::max(now, option.before_ms);
  }
  for (const size_t i : plan.order) {
    now = std::max(now, chosen[i].before_ms);
    list[i] = {now, chosen[i].server_ms};
    now += chosen[i].server_ms;
  }
  if (kind == ServerKind::kSequential) return list;
  for (size_t i = 0; i < chosen.size(); ++i) {
    const CutOption& option = chosen[i];
    if (kind == ServerKind::kJoined) {
      list[i] = {now, total};
    } else if (kind == ServerKind::kSharing && option.server_ms > 0) {
      list[i] = {option.before_ms, *plan.objective - option.before_ms - option.after_ms};
    } else {
      list[i] = {option.before_ms, option.server_ms};
    }
  }
  return list;
}

StepSchedule split_schedule(const Problem& problem, const Plan& plan) {
  std::vector<CutOption> chosen;
  for (size_t i = 0; i < plan.cuts.size(); ++i) chosen.push_back(cut_option(problem, i, plan.cuts[i]));
  const std::vector<Service> served = services(problem, plan, chosen);
  const ServerKind kind = problem.split()->server;
  const bool has_row = kind == ServerKind::kSequential || kind == ServerKind::kJoined;
  StepSchedule schedule{plan.place_names, {}};
  const size_t server_row = plan.cuts.size();
  for (size_t i = 0; i < chosen.size(); ++i) {
    for (StepBar bar : client_parts(problem, i, chosen[i], i, has_row ? server_row : i)) {
      const bool is_after = bar.start_ms >= chosen[i].before_ms && bar.part != StepPart::kServer;
      if (bar.part == StepPart::kServer) {
        bar.start_ms = served[i].start_ms;
        bar.length_ms = served[i].length_ms;
        bar.what = "serves " + plan.place_names[i];
      } else if (is_after) {
        bar.start_ms += served[i].start_ms + served[i].length_ms - chosen[i].before_ms - chosen[i].server_ms;
      }
      schedule.bars.push_back(std::move(bar));
    }
  }
  if (!has_row) schedule.rows.pop_back();
  return schedule;
}

/// The device that does most of the work beside the source, in the plan or else of all.
size_t other_device(const Problem& problem, const Plan& plan) {
  const ChainPlaces& chain = *problem.chain();
  size_t best = chain.source;
  size_t most = 0;
  for (const PlanStage& stage : plan.stages) {
    if (stage.device == chain.source || stage.last - stage.first + 1 <= most) continue;
    best = stage.device;
    most = stage.last - stage.first + 1;
  }
  for (size_t d = 0; best == chain.source && d < chain.devices.size(); ++d) {
    if (d != chain.source) best = d;
  }
  return best;
}

CutCurve chain_curve(const Problem& problem, const Plan& plan) {
  const ChainPlaces& chain = *problem.chain();
  const size_t other = other_device(problem, plan);
  CutCurve curve{"one pass by cut: " + chain.devices[chain.source].name, {}};
  if (other != chain.source) curve.title += " and " + chain.devices[other].name;
  const size_t blocks = problem.size();
  for (size_t cut = other == chain.source ? blocks : chain.min_front_blocks; cut <= blocks; ++cut) {
    std::vector<PlanStage> stages;
    if (cut > 0) stages.push_back({chain.source, 0, cut - 1});
    if (cut < blocks) stages.push_back({other, cut, blocks - 1});
    curve.cuts.push_back({cut, chain_bars(problem, stages)});
  }
  return curve;
}

CutCurve client_curve(const Problem& problem, const Plan& plan) {
  size_t slowest = 0;
  double longest = -1;
  for (size_t i = 0; i < plan.cuts.size(); ++i) {
    const double alone = cut_option(problem, i, plan.cuts[i]).alone_ms();
    if (alone <= longest) continue;
    longest = alone;
    slowest = i;
  }
  CutCurve curve{"one step by cut, without waiting: " + plan.place_names[slowest], {}};
  const auto options = cut_options(problem);
  for (const CutOption& option : options[slowest]) {
    curve.cuts.push_back({option.cut, client_parts(problem, slowest, option, 0, 0)});
  }
  return curve;
}

}  // namespace

StepSchedule step_schedule(const Problem& problem, const Plan& plan) {
  if (problem.split()) return split_schedule(problem, plan);
  return {plan.place_names, chain_bars(problem, plan.stages)};
}

CutCurve cut_curve(const Problem& problem, const Plan& plan) {
  return problem.split() ? client_curve(problem, plan) : chain_curve(problem, plan);
}

}  // namespace tandem::detail
