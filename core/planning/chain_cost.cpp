#include "tandem/core/planning/chain_cost.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

namespace tandem {
namespace {

using DirectedLink = std::pair<size_t, size_t>;

/// What each device and each directed link carries in one direction of a pass.
struct Loads {
  std::map<size_t, double> devices;
  std::map<DirectedLink, double> links;

  double largest() const {
    double most = 0;
    for (const auto& [device, load] : devices) most = std::max(most, load);
    for (const auto& [link, load] : links) most = std::max(most, load);
    return most;
  }
};

class CostSum {
 public:
  explicit CostSum(const Problem& problem) : problem_(problem), chain_(*problem.chain()) {}

  void add_stage(const PlanStage& stage) {
    const BlockTimes& times = chain_.devices[stage.device].times;
    double forward = 0;
    double backward = 0;
    for (size_t i = stage.first; i <= stage.last; ++i) {
      forward += times.forward_ms[i];
      backward += times.backward_ms[i];
    }
    forward_.devices[stage.device] += forward;
    backward_.devices[stage.device] += backward;
    cost_.compute_ms += forward + backward;
  }

  void add_transfer(size_t from, size_t to, size_t cut) {
    const double bytes = bytes_before(problem_, cut);
    const double time = transfer_ms(chain_.link(from, to), bytes);
    forward_.links[{from, to}] += time;
    cost_.transfer_ms += time;
    cost_.bytes += bytes;
    if (!problem_.training || cut == 0) return;  // no gradient of the input is needed
    const double back = transfer_ms(chain_.link(to, from), bytes);
    backward_.links[{to, from}] += back;
    cost_.transfer_ms += back;
    cost_.bytes += bytes;
  }

  void add_return(size_t from) {
    if (problem_.training || from == chain_.source || chain_.return_bytes == 0) return;
    cost_.return_ms = transfer_ms(chain_.link(from, chain_.source), chain_.return_bytes);
    forward_.links[{from, chain_.source}] += cost_.return_ms;
    cost_.bytes += chain_.return_bytes;
  }

  ChainCost result() {
    cost_.forward_bottleneck_ms = forward_.largest();
    cost_.backward_bottleneck_ms = backward_.largest();
    cost_.devices = forward_.devices.size();
    return cost_;
  }

 private:
  const Problem& problem_;
  const ChainPlaces& chain_;
  Loads forward_;
  Loads backward_;
  ChainCost cost_;
};

std::optional<std::string> broken_limit(const Problem& problem, const std::vector<PlanStage>& stages) {
  const ChainPlaces& chain = *problem.chain();
  std::vector<double> energy(chain.devices.size(), 0.0);
  for (const PlanStage& stage : stages) {
    for (size_t i = stage.first; i <= stage.last; ++i) {
      energy[stage.device] += chain.devices[stage.device].limits.energy_mj[i];
    }
  }
  const std::vector<double> memory = chain_memory(problem, stages);
  for (size_t d = 0; d < chain.devices.size(); ++d) {
    const PlanDevice& device = chain.devices[d];
    if (!fits(memory[d], device.limits.memory_bytes)) return "memory_bytes of " + device.name;
    if (!fits(energy[d], device.limits.max_energy_mj)) return "max_energy_mj of " + device.name;
  }
  return std::nullopt;
}

std::optional<std::string> broken_leakage(const Problem& problem, const std::vector<PlanStage>& stages) {
  for (const PlanStage& stage : stages) {
    if (stage.device != problem.chain()->source && !problem.may_leave(stage.first)) return "max_leakage";
  }
  return std::nullopt;
}

bool is_contiguous(const ChainPlaces& chain, const std::vector<PlanStage>& stages) {
  std::set<size_t> seen;
  for (size_t s = 0; s < stages.size(); ++s) {
    const size_t device = stages[s].device;
    const bool may_return =
        chain.last_stage_on_source && device == chain.source && s + 1 == stages.size();
    if (!seen.insert(device).second && !may_return) return false;
  }
  return true;
}

}  // namespace

ChainWeights chain_weights(PlanObjective objective, const ChainPlaces& chain) {
  if (objective == PlanObjective::kThroughput) return {.latency = 0, .bottleneck = 1};
  if (objective == PlanObjective::kPipeline) {
    return {.latency = 1, .bottleneck = static_cast<double>(chain.micro_batches - 1)};
  }
  return {};
}

double transfer_ms(const PlanLink& link, double bytes) {
  return link.latency_ms + bytes / link.bytes_per_ms;
}

double bytes_before(const Problem& problem, size_t cut) {
  return cut == 0 ? problem.input_bytes : problem.blocks[cut - 1].output_bytes;
}

ChainCost chain_cost(const Problem& problem, const std::vector<PlanStage>& stages) {
  CostSum sum(problem);
  size_t at = problem.chain()->source;
  for (const PlanStage& stage : stages) {
    if (stage.device != at) sum.add_transfer(at, stage.device, stage.first);
    sum.add_stage(stage);
    at = stage.device;
  }
  sum.add_return(at);
  return sum.result();
}

std::optional<std::string> broken_constraint(const Problem& problem, const std::vector<PlanStage>& stages) {
  const ChainPlaces& chain = *problem.chain();
  const std::vector<size_t> devices = device_of_blocks(stages, problem.size());
  for (size_t i = 0; i < chain.min_front_blocks; ++i) {
    if (devices[i] != chain.source) return "min_front_blocks";
  }
  if (chain.last_stage_on_source && devices.back() != chain.source) return "last_stage_on_source";
  if (chain.contiguous && !is_contiguous(chain, stages)) return "contiguous";
  if (auto broken = broken_leakage(problem, stages)) return broken;
  return broken_limit(problem, stages);
}

std::vector<double> chain_memory(const Problem& problem, const std::vector<PlanStage>& stages) {
  std::vector<double> memory(problem.chain()->devices.size(), 0.0);
  for (const PlanStage& stage : stages) {
    for (size_t i = stage.first; i <= stage.last; ++i) memory[stage.device] += problem.blocks[i].memory_bytes;
  }
  return memory;
}

std::vector<size_t> device_of_blocks(const std::vector<PlanStage>& stages, size_t blocks) {
  std::vector<size_t> devices(blocks, 0);
  for (const PlanStage& stage : stages) {
    for (size_t i = stage.first; i <= stage.last; ++i) devices[i] = stage.device;
  }
  return devices;
}

std::vector<PlanStage> stages_of(const std::vector<size_t>& device_of_block) {
  std::vector<PlanStage> stages;
  for (size_t i = 0; i < device_of_block.size(); ++i) {
    if (stages.empty() || stages.back().device != device_of_block[i]) {
      stages.push_back({device_of_block[i], i, i});
    }
    stages.back().last = i;
  }
  return stages;
}

bool wins_tie(const Problem& problem, const std::vector<PlanStage>& first,
              const std::vector<PlanStage>& second) {
  const ChainCost a = chain_cost(problem, first);
  const ChainCost b = chain_cost(problem, second);
  if (a.devices != b.devices) return a.devices < b.devices;
  if (!fits(a.bytes, b.bytes)) return false;
  if (!fits(b.bytes, a.bytes)) return true;
  return device_of_blocks(first, problem.size()) < device_of_blocks(second, problem.size());
}

}  // namespace tandem
