#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include "tandem/core/planning/chain_model_detail.h"
#include "tandem/core/planning/chain_planner_detail.h"

namespace tandem::detail {
namespace {

using Stages = std::vector<PlanStage>;
using Devices = std::vector<size_t>;

/// The source, then the others in file order.
Devices source_first(const ChainPlaces& chain) {
  Devices order{chain.source};
  for (size_t d = 0; d < chain.devices.size(); ++d) {
    if (d != chain.source) order.push_back(d);
  }
  return order;
}

/// Stages of these sizes, one after the other; a device with no block gets none.
Stages stages_of_sizes(const Devices& order, const std::vector<size_t>& sizes) {
  Stages stages;
  size_t first = 0;
  for (size_t s = 0; s < order.size(); ++s) {
    if (sizes[s] > 0) stages.push_back({order[s], first, first + sizes[s] - 1});
    first += sizes[s];
  }
  return stages;
}

Stages even(const Problem& problem) {
  const Devices order = source_first(*problem.chain());
  std::vector<size_t> sizes(order.size(), problem.size() / order.size());
  for (size_t s = 0; s < problem.size() % order.size(); ++s) ++sizes[s];
  return stages_of_sizes(order, sizes);
}

/// Blocks in proportion to memory: the floor, and what remains to the largest fractions.
std::vector<size_t> proportional_sizes(const Problem& problem, const Devices& order) {
  double total = 0;
  for (const size_t d : order) total += problem.chain()->devices[d].limits.memory_bytes;
  std::vector<size_t> sizes;
  std::vector<double> fractions;
  size_t given = 0;
  for (const size_t d : order) {
    const double memory = problem.chain()->devices[d].limits.memory_bytes;
    const double share = total > 0 ? static_cast<double>(problem.size()) * (memory / total) : 0;
    const double whole = std::min(std::floor(share), static_cast<double>(problem.size() - given));
    sizes.push_back(static_cast<size_t>(whole));
    fractions.push_back(share - whole);
    given += sizes.back();
  }
  std::vector<size_t> by_fraction(order.size());
  std::iota(by_fraction.begin(), by_fraction.end(), size_t{0});
  std::stable_sort(by_fraction.begin(), by_fraction.end(),
                   [&](size_t a, size_t b) { return fractions[a] > fractions[b]; });
  for (size_t i = 0; given < problem.size(); ++i, ++given) ++sizes[by_fraction[i % by_fraction.size()]];
  return sizes;
}

/// Gives each device without a block one of the device with the most.
bool give_each_one(std::vector<size_t>& sizes) {
  for (size_t& size : sizes) {
    if (size > 0) continue;
    const auto most = std::max_element(sizes.begin(), sizes.end());
    if (*most < 2) return false;
    --*most;
    ++size;
  }
  return true;
}

/// Of the smallest sets of devices with the source whose memory holds the model the first in file order.
std::optional<Devices> smallest_set(const Problem& problem) {
  const ChainPlaces& chain = *problem.chain();
  const auto memory = [&](size_t d) { return chain.devices[d].limits.memory_bytes; };
  double needed = 0;
  for (const PlanBlock& block : problem.blocks) needed += block.memory_bytes;
  Devices others = source_first(chain);
  others.erase(others.begin());
  // The largest memory that `count` devices of others[from ...] have together.
  const auto largest = [&](size_t from, size_t count) {
    std::vector<double> sizes;
    for (size_t i = from; i < others.size(); ++i) sizes.push_back(memory(others[i]));
    if (sizes.size() < count) return -1.0;
    std::sort(sizes.rbegin(), sizes.rend());
    return std::accumulate(sizes.begin(), sizes.begin() + static_cast<std::ptrdiff_t>(count), 0.0);
  };
  for (size_t size = 0; size <= others.size(); ++size) {
    if (!fits(needed, memory(chain.source) + largest(0, size))) continue;
    Devices chosen{chain.source};
    double sum = memory(chain.source);
    for (size_t i = 0; i < others.size() && chosen.size() <= size; ++i) {
      const double rest = largest(i + 1, size - chosen.size());
      if (rest < 0 || !fits(needed, sum + memory(others[i]) + rest)) continue;
      sum += memory(others[i]);
      chosen.push_back(others[i]);
    }
    return chosen;
  }
  return std::nullopt;
}

std::optional<Stages> exo(const Problem& problem) {
  const auto devices = smallest_set(problem);
  if (!devices) return std::nullopt;
  std::vector<size_t> sizes = proportional_sizes(problem, *devices);
  if (!give_each_one(sizes)) return std::nullopt;
  return stages_of_sizes(*devices, sizes);
}

Stages llama_rpc(const Problem& problem) {
  const Devices order = source_first(*problem.chain());
  return stages_of_sizes(order, proportional_sizes(problem, order));
}

/// The model's time on the source, an equal part of it to each device.
Stages equal_time(const Problem& problem) {
  const ChainPlaces& chain = *problem.chain();
  const Devices order = source_first(chain);
  const BlockTimes& times = chain.devices[chain.source].times;
  const auto time = [&](size_t i) { return times.forward_ms[i] + times.backward_ms[i]; };
  double total = 0;
  for (size_t i = 0; i < problem.size(); ++i) total += time(i);
  const double share = total / static_cast<double>(order.size());
  std::vector<size_t> sizes(order.size(), 0);
  size_t block = 0;
  for (size_t s = 0; s < order.size(); ++s) {
    double filled = 0;
    const bool is_last = s + 1 == order.size();
    while (block < problem.size() && (is_last || sizes[s] == 0 || fits(filled + time(block), share))) {
      filled += time(block++);
      ++sizes[s];
    }
  }
  return stages_of_sizes(order, sizes);
}

/// The problem with only these devices. The ids of the plan are positions in `devices`.
Problem only_devices(const Problem& problem, const Devices& devices) {
  Problem part = problem;
  auto& chain = std::get<ChainPlaces>(part.places);
  chain.devices.clear();
  chain.links.clear();
  for (size_t a = 0; a < devices.size(); ++a) {
    chain.devices.push_back(problem.chain()->devices[devices[a]]);
    if (devices[a] == problem.chain()->source) chain.source = a;
    for (const size_t b : devices) chain.links.push_back(problem.chain()->link(devices[a], b));
  }
  return part;
}

std::optional<Stages> neurosurgeon(const Problem& problem, PlanObjective objective) {
  const ChainPlaces& chain = *problem.chain();
  const ChainWeights weights = chain_weights(objective, chain);
  std::optional<Stages> best;
  double best_value = kNever;
  for (size_t other = 0; other < chain.devices.size(); ++other) {
    if (other == chain.source && chain.devices.size() > 1) continue;
    Devices pair{chain.source};
    if (other != chain.source) pair.push_back(other);
    std::sort(pair.begin(), pair.end());
    auto stages = best_stages(only_devices(problem, pair), objective);
    if (!stages) continue;
    for (PlanStage& stage : *stages) stage.device = pair[stage.device];
    const double value = weights.value(chain_cost(problem, *stages));
    const bool is_tie = best && std::abs(value - best_value) <= 1e-9 * best_value;
    if (best && (is_tie ? !wins_tie(problem, *stages, *best) : value > best_value)) continue;
    best = std::move(stages);
    best_value = value;
  }
  return best;
}

/// EdgeShard's latency recurrence (arXiv 2405.14371, equation 7): one best path for each block and device, which
/// carries the memory that it has used. So it is no exact planner where memory binds.
class EdgeShardLatency {
 public:
  explicit EdgeShardLatency(const Problem& problem) : problem_(problem), chain_(*problem.chain()) {}

  std::optional<Stages> run() const {
    const size_t count = chain_.devices.size();
    Path start;
    start.time = 0;
    start.memory.assign(count, 0.0);
    start.energy.assign(count, 0.0);
    std::vector<Path> paths(count);
    for (size_t d = 0; d < count; ++d) paths[d] = extended(start, d);
    for (size_t block = 1; block < problem_.size(); ++block) {
      std::vector<Path> next(count);
      for (size_t d = 0; d < count; ++d) {
        for (const Path& path : paths) {
          if (path.time == kNever) continue;
          Path longer = extended(path, d);
          if (longer.time < next[d].time) next[d] = std::move(longer);
        }
      }
      paths = std::move(next);
    }
    const auto best = std::min_element(paths.begin(), paths.end(),
                                       [](const Path& a, const Path& b) { return a.time < b.time; });
    if (best->time == kNever) return std::nullopt;
    return stages_of(best->devices);
  }

 private:
  struct Path {
    double time = kNever;
    Devices devices;
    std::vector<double> memory;
    std::vector<double> energy;
    bool is_back = false;  ///< on the source a second time, which it cannot leave
  };

  Path extended(Path path, size_t device) const {
    const size_t block = path.devices.size();
    if (!may_extend(path, device, block)) return {};
    const size_t last = path.devices.empty() ? chain_.source : path.devices.back();
    const PlanDevice& place = chain_.devices[device];
    path.devices.push_back(device);
    path.memory[device] += problem_.blocks[block].memory_bytes;
    path.energy[device] += place.limits.energy_mj[block];
    if (!fits(path.memory[device], place.limits.memory_bytes)) return {};
    if (!fits(path.energy[device], place.limits.max_energy_mj)) return {};
    if (last != device) {
      const double bytes = bytes_before(problem_, block);
      path.time += transfer_ms(chain_.link(last, device), bytes);
      if (problem_.training && block > 0) path.time += transfer_ms(chain_.link(device, last), bytes);
    }
    path.time += place.times.forward_ms[block] + place.times.backward_ms[block];
    const bool returns = block + 1 == problem_.size() && device != chain_.source && !problem_.training;
    if (returns && chain_.return_bytes > 0) {
      path.time += transfer_ms(chain_.link(device, chain_.source), chain_.return_bytes);
    }
    return path;
  }

  /// Whether the fixed stages, the leakage and the order of devices permit the block there. Sets path.is_back.
  bool may_extend(Path& path, size_t device, size_t block) const {
    const bool is_last = block + 1 == problem_.size();
    const bool must_be_source = block < chain_.min_front_blocks || (is_last && chain_.last_stage_on_source);
    if (must_be_source && device != chain_.source) return false;
    const size_t last = path.devices.empty() ? chain_.source : path.devices.back();
    if (device == last) return true;
    if (path.is_back || (device != chain_.source && !problem_.may_leave(block))) return false;
    const bool is_new = std::find(path.devices.begin(), path.devices.end(), device) == path.devices.end();
    if (is_new || !chain_.contiguous) return true;
    path.is_back = device == chain_.source && chain_.last_stage_on_source;
    return path.is_back;
  }

  const Problem& problem_;
  const ChainPlaces& chain_;
};

/// As the published planners see training: one time for a block, and no gradients that travel.
Problem for_published(Problem problem) {
  auto& chain = std::get<ChainPlaces>(problem.places);
  for (PlanDevice& device : chain.devices) {
    for (size_t i = 0; i < problem.blocks.size(); ++i) {
      device.times.forward_ms[i] += device.times.backward_ms[i];
      device.times.backward_ms[i] = 0;
    }
  }
  problem.training = false;
  chain.return_bytes = 0;
  chain.contiguous = true;
  return problem;
}

/// PipeEdge counts devices by type: the first of each type in the file stands for all.
Problem by_types(Problem problem) {
  auto& chain = std::get<ChainPlaces>(problem.places);
  const std::vector<PlanDevice> given = chain.devices;
  const std::vector<PlanLink> links = chain.links;
  const size_t count = given.size();
  const auto first_of = [&](size_t d) {
    for (size_t other = 0; other < d; ++other) {
      if (!given[d].type.empty() && given[other].type == given[d].type) return other;
    }
    return d;
  };
  const auto second_of = [&](size_t d) {
    for (size_t other = first_of(d) + 1; other < count; ++other) {
      if (first_of(other) == first_of(d)) return other;
    }
    return d;
  };
  for (size_t a = 0; a < count; ++a) {
    chain.devices[a] = given[first_of(a)];
    for (size_t b = 0; b < count; ++b) {
      if (a == b) continue;
      const bool alike = first_of(a) == first_of(b);
      chain.links[a * count + b] = links[first_of(a) * count + (alike ? second_of(a) : first_of(b))];
    }
  }
  return problem;
}

std::optional<Stages> run_rule(const Problem& problem, PlanObjective objective, const std::string& name) {
  if (name == "solo") return Stages{{problem.chain()->source, 0, problem.size() - 1}};
  if (name == "even") return even(problem);
  if (name == "neurosurgeon") return neurosurgeon(problem, objective);
  if (name == "exo") return exo(problem);
  if (name == "llama-rpc") return llama_rpc(problem);
  if (name == "equal-time") return equal_time(problem);
  if (name == "pipeedge") return best_stages(by_types(for_published(problem)), PlanObjective::kThroughput);
  if (objective == PlanObjective::kLatency) return EdgeShardLatency(problem).run();
  return best_stages(for_published(problem), PlanObjective::kThroughput);
}

}  // namespace

const std::vector<std::string>& chain_baseline_names() {
  static const std::vector<std::string> names{"solo",     "even", "neurosurgeon", "edgeshard",
                                              "pipeedge", "exo",  "llama-rpc",    "equal-time"};
  return names;
}

std::optional<Stages> baseline_stages(const Problem& problem, PlanObjective objective,
                                      const std::string& name) {
  auto stages = run_rule(problem, objective, name);
  if (!stages || stages->empty() || broken_constraint(problem, *stages)) return std::nullopt;
  return stages;
}

std::vector<Stages> simple_plans(const Problem& problem) {
  std::vector<Stages> plans;
  for (const char* name : {"solo", "even", "exo", "llama-rpc", "equal-time"}) {
    if (auto stages = baseline_stages(problem, PlanObjective::kLatency, name)) {
      plans.push_back(std::move(*stages));
    }
  }
  return plans;
}

}  // namespace tandem::detail
