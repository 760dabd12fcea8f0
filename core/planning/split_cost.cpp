#include "tandem/core/planning/split_cost.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "tandem/core/planning/one_machine.h"

namespace tandem {
namespace {

double memory_of(const Problem& problem, size_t first, size_t end) {
  double sum = 0;
  for (size_t i = first; i < end; ++i) sum += problem.blocks[i].memory_bytes;
  return sum;
}

/// The constraint that forbids the cut; nullptr when none does.
const char* forbidden_by(const Problem& problem, size_t client, size_t cut) {
  const SplitPlaces& split = *problem.split();
  const PlaceLimits& limits = split.clients[client].limits;
  if (problem.labels_stay && cut < problem.size()) return "labels_stay";
  if (!problem.may_leave(cut)) return "max_leakage";
  if (!fits(memory_of(problem, 0, cut), limits.memory_bytes)) return "memory_bytes";
  const auto end = limits.energy_mj.begin() + static_cast<std::ptrdiff_t>(cut);
  if (!fits(std::accumulate(limits.energy_mj.begin(), end, 0.0), limits.max_energy_mj)) return "max_energy_mj";
  // The aggregator holds the blocks from the smallest cut on, once: so every cut must leave it few enough.
  if (!fits(memory_of(problem, cut, problem.size()), split.aggregator_memory_bytes)) {
    return "aggregator.memory_bytes";
  }
  return nullptr;
}

/// The smallest T with sum p / (T - r - q) <= 1: each client owns that fraction of the server.
double sharing_ms(const std::vector<CutOption>& chosen) {
  double low = 0;
  double high = 0;
  const auto clients = static_cast<double>(chosen.size());
  for (const CutOption& option : chosen) {
    low = std::max(low, option.before_ms + option.after_ms);
    high = std::max(high, option.before_ms + option.after_ms + clients * option.server_ms);
  }
  const auto is_enough = [&](double time) {
    double used = 0;
    for (const CutOption& option : chosen) {
      if (option.server_ms == 0) continue;
      const double left = time - option.before_ms - option.after_ms;
      if (left <= 0) return false;
      used += option.server_ms / left;
    }
    return used <= 1;
  };
  if (is_enough(low)) return low;
  while (true) {
    const double middle = low + (high - low) / 2;
    if (middle <= low || middle >= high) return high;
    (is_enough(middle) ? high : low) = middle;
  }
}

double largest(const std::vector<CutOption>& chosen, double (*figure)(const CutOption&)) {
  double most = 0;
  for (const CutOption& option : chosen) most = std::max(most, figure(option));
  return most;
}

double joined_ms(const std::vector<CutOption>& chosen) {
  double server = 0;
  for (const CutOption& option : chosen) server += option.server_ms;
  return largest(chosen, [](const CutOption& option) { return option.before_ms; }) + server +
         largest(chosen, [](const CutOption& option) { return option.after_ms; });
}

std::vector<MachineJob> jobs_of(const std::vector<CutOption>& chosen) {
  std::vector<MachineJob> jobs;
  for (const CutOption& option : chosen) jobs.push_back({option.before_ms, option.server_ms, option.after_ms});
  return jobs;
}

double sequential_ms(const std::vector<CutOption>& chosen, std::vector<size_t>* order) {
  MachineSchedule schedule = best_schedule(jobs_of(chosen));
  if (order) *order = std::move(schedule.order);
  return schedule.makespan;
}

}  // namespace

CutOption cut_option(const Problem& problem, size_t client_id, size_t cut) {
  const SplitPlaces& split = *problem.split();
  const PlanClient& client = split.clients[client_id];
  CutOption option;
  option.cut = cut;
  for (size_t i = 0; i < cut; ++i) {
    option.before_ms += client.times.forward_ms[i];
    option.after_ms += client.times.backward_ms[i] + client.times.optimiser_ms[i];
  }
  for (size_t i = cut; i < problem.size(); ++i) {
    option.server_ms += split.aggregator.forward_ms[i] + split.aggregator.backward_ms[i] +
                        split.aggregator.optimiser_ms[i];
  }
  option.compute_ms = option.alone_ms();
  if (cut == problem.size()) return option;
  const double bytes = cut == 0 ? problem.input_bytes : problem.blocks[cut - 1].output_bytes;
  const double up = client.latency_ms + bytes / client.up_bytes_per_ms;
  // Nothing before the first block is trained: no gradient comes down for the cut 0.
  const double down = cut == 0 ? 0 : client.latency_ms + bytes / client.down_bytes_per_ms;
  option.before_ms += up;
  option.after_ms += down;
  option.transfer_ms = up + down;
  option.bytes = cut == 0 ? bytes : 2 * bytes;
  return option;
}

std::vector<std::vector<CutOption>> cut_options(const Problem& problem) {
  const auto& clients = problem.split()->clients;
  std::vector<std::vector<CutOption>> options(clients.size());
  for (size_t i = 0; i < clients.size(); ++i) {
    for (size_t cut = clients[i].min_cut; cut <= clients[i].max_cut; ++cut) {
      if (!forbidden_by(problem, i, cut)) options[i].push_back(cut_option(problem, i, cut));
    }
  }
  return options;
}

std::string split_infeasible_reason(const Problem& problem) {
  const auto options = cut_options(problem);
  for (size_t i = 0; i < options.size(); ++i) {
    if (!options[i].empty()) continue;
    const PlanClient& client = problem.split()->clients[i];
    std::vector<std::string> constraints;
    for (size_t cut = client.min_cut; cut <= client.max_cut; ++cut) {
      const std::string constraint = forbidden_by(problem, i, cut);
      const auto found = std::find(constraints.begin(), constraints.end(), constraint);
      if (found == constraints.end()) constraints.push_back(constraint);
    }
    std::string names;
    for (const std::string& constraint : constraints) names += (names.empty() ? "" : " and ") + constraint;
    return "no cut from " + std::to_string(client.min_cut) + " to " + std::to_string(client.max_cut) +
           " of client " + client.name + " obeys " + names;
  }
  return "";
}

double step_ms(ServerKind kind, const std::vector<CutOption>& chosen, std::vector<size_t>* order) {
  switch (kind) {
    case ServerKind::kSequential: return sequential_ms(chosen, order);
    case ServerKind::kJoined: return joined_ms(chosen);
    case ServerKind::kSharing: return sharing_ms(chosen);
    case ServerKind::kUncontended: break;
  }
  return largest(chosen, [](const CutOption& option) { return option.alone_ms(); });
}

double quick_step_ms(ServerKind kind, const std::vector<CutOption>& chosen) {
  return kind == ServerKind::kSequential ? schrage_schedule(jobs_of(chosen)).makespan : step_ms(kind, chosen);
}

std::vector<double> split_memory(const Problem& problem, const std::vector<size_t>& cuts) {
  std::vector<double> memory;
  for (const size_t cut : cuts) memory.push_back(memory_of(problem, 0, cut));
  const size_t first = *std::min_element(cuts.begin(), cuts.end());
  memory.push_back(memory_of(problem, first, problem.size()));
  return memory;
}

double round_ms(const Problem& problem, const std::vector<size_t>& cuts, double step) {
  const auto& clients = problem.split()->clients;
  double slowest = 0;
  uint64_t steps = 1;
  for (size_t i = 0; i < clients.size(); ++i) {
    steps = std::max(steps, clients[i].steps);
    if (cuts[i] == 0) continue;  // it holds no weights
    double bytes = 0;
    for (size_t b = 0; b < cuts[i]; ++b) bytes += problem.blocks[b].parameter_bytes;
    slowest = std::max(slowest, 2 * clients[i].latency_ms + bytes / clients[i].up_bytes_per_ms +
                                    bytes / clients[i].down_bytes_per_ms);
  }
  return static_cast<double>(steps) * step + slowest;
}

}  // namespace tandem
