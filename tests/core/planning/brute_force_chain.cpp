// P2: contiguous (or any) ranges of blocks on devices that are joined by directed links.
#include <algorithm>
#include <set>

#include "core/planning/brute_force_detail.h"

namespace tandem::brute_force {
namespace {

using nlohmann::json;
using Numbers = std::vector<double>;
/// The device of each block, by its place in the file.
using Assignment = std::vector<int>;

struct Link {
  double bytes_per_ms = 0;
  double latency_ms = 0;

  double transfer(double bytes) const { return latency_ms + bytes / bytes_per_ms; }
};

struct Device {
  std::string name;
  double memory_bytes = 0;
  Numbers forward_ms;
  Numbers backward_ms;
  Numbers energy_mj;
  double max_energy_mj = 0;
};

struct Chain {
  Numbers memory_bytes;
  Numbers output_bytes;
  std::vector<Device> devices;
  /// links[from][to]
  std::vector<std::vector<Link>> links;
  double input_bytes = 0;
  double return_bytes = 0;
  int source = 0;
  int blocks = 0;
  int min_front_blocks = 1;
  bool last_stage_on_source = false;
  bool contiguous = true;
  bool training = false;
  double micro_batches = 1;
  Numbers leakage;
  double max_leakage = 0;
};

int device_named(const Chain& chain, const std::string& name) {
  for (size_t i = 0; i < chain.devices.size(); ++i) {
    if (chain.devices[i].name == name) return static_cast<int>(i);
  }
  return -1;
}

Link read_link(const json& from) {
  return {from.at("bytes_per_ms"), from.value("latency_ms", 0.0)};
}

void read_links(const json& links, Chain& chain) {
  const size_t count = chain.devices.size();
  // A file with one device may do without: nothing travels.
  const Link every =
      links.is_object() && links.contains("default") ? read_link(links["default"]) : Link{1, 0};
  chain.links.assign(count, std::vector<Link>(count, every));
  if (!links.is_object()) return;
  for (const json& one : links.value("overrides", json::array())) {
    chain.links.at(device_named(chain, one.at("from"))).at(device_named(chain, one.at("to"))) =
        read_link(one);
  }
}

Chain read_chain(const json& problem) {
  Chain chain;
  for (const json& block : problem.at("blocks")) {
    chain.memory_bytes.push_back(block.at("memory_bytes"));
    chain.output_bytes.push_back(block.at("output_bytes"));
  }
  chain.blocks = static_cast<int>(chain.memory_bytes.size());
  chain.training = problem.value("mode", "inference") == "training";
  for (const json& device : problem.at("devices")) {
    Device read{
        device.at("name"), device.at("memory_bytes"), device.at("forward_ms"), Numbers(), Numbers(), 0};
    if (chain.training) read.backward_ms = device.at("backward_ms").get<Numbers>();
    if (device.contains("max_energy_mj")) {
      read.energy_mj = device.at("energy_mj").get<Numbers>();
      read.max_energy_mj = device["max_energy_mj"];
    }
    chain.devices.push_back(std::move(read));
  }
  read_links(problem.value("links", json()), chain);
  chain.input_bytes = problem.at("input_bytes");
  chain.return_bytes = problem.value("return_bytes", 0.0);
  chain.source = device_named(chain, problem.at("source"));
  chain.min_front_blocks = problem.value("min_front_blocks", 1);
  chain.last_stage_on_source =
      problem.value("last_stage_on_source", false) || problem.value("labels_stay", false);
  chain.contiguous = problem.value("contiguous", true);
  chain.micro_batches = problem.value("micro_batches", 1.0);
  if (problem.contains("max_leakage")) {
    chain.leakage = problem.at("leakage").get<Numbers>();
    chain.max_leakage = problem["max_leakage"];
  }
  return chain;
}

/// What one direction of a pass keeps busy.
struct Load {
  Numbers compute;
  std::vector<Numbers> transfers;  ///< [from][to]

  explicit Load(size_t devices) : compute(devices), transfers(devices, Numbers(devices)) {}

  double busiest() const {
    double most = *std::max_element(compute.begin(), compute.end());
    for (const Numbers& row : transfers) most = std::max(most, *std::max_element(row.begin(), row.end()));
    return most;
  }
};

struct Loads {
  Load forward;
  Load backward;
};

void send(const Chain& chain, int from, int to, double bytes, Load& load, double& sum_ms, Cost& cost) {
  const double took = chain.links[from][to].transfer(bytes);
  load.transfers[from][to] += took;
  sum_ms += took;
  cost.all_bytes += bytes;
}

void add_compute(const Chain& chain, const Assignment& assignment, Loads& loads, Cost& cost) {
  for (int block = 0; block < chain.blocks; ++block) {
    const Device& device = chain.devices[assignment[block]];
    loads.forward.compute[assignment[block]] += device.forward_ms.at(block);
    cost.compute_ms += device.forward_ms.at(block);
    if (!chain.training) continue;
    loads.backward.compute[assignment[block]] += device.backward_ms.at(block);
    cost.compute_ms += device.backward_ms.at(block);
  }
}

void add_transfers(const Chain& chain, const Assignment& assignment, Loads& loads, Cost& cost) {
  if (assignment.front() != chain.source) {
    send(chain, chain.source, assignment.front(), chain.input_bytes, loads.forward, cost.transfer_ms, cost);
    cost.forward_bytes += chain.input_bytes;
  }
  for (int block = 0; block + 1 < chain.blocks; ++block) {
    const int from = assignment[block], to = assignment[block + 1];
    if (from == to) continue;
    send(chain, from, to, chain.output_bytes[block], loads.forward, cost.transfer_ms, cost);
    cost.forward_bytes += chain.output_bytes[block];
    if (chain.training) {
      send(chain, to, from, chain.output_bytes[block], loads.backward, cost.transfer_ms, cost);
    }
  }
  if (!chain.training && chain.return_bytes > 0 && assignment.back() != chain.source) {
    send(chain, assignment.back(), chain.source, chain.return_bytes, loads.forward, cost.return_ms, cost);
    cost.forward_bytes += chain.return_bytes;
  }
}

/// Devices in the order of the stages; a stage is what one device computes without a pause.
std::vector<int> stages_of(const Assignment& assignment) {
  std::vector<int> stages;
  for (const int device : assignment) {
    if (stages.empty() || stages.back() != device) stages.push_back(device);
  }
  return stages;
}

Cost cost_of_assignment(const Chain& chain, const std::string& objective, const Assignment& assignment) {
  Cost cost;
  Loads loads{Load(chain.devices.size()), Load(chain.devices.size())};
  add_compute(chain, assignment, loads, cost);
  add_transfers(chain, assignment, loads, cost);
  const double latency = cost.compute_ms + cost.transfer_ms + cost.return_ms;
  cost.bottleneck_ms = loads.forward.busiest() + loads.backward.busiest();
  if (objective == "latency") cost.objective = latency;
  if (objective == "throughput") cost.objective = cost.bottleneck_ms;
  if (objective == "pipeline") cost.objective = latency + (chain.micro_batches - 1) * cost.bottleneck_ms;
  cost.ids = assignment;
  cost.devices = static_cast<int>(std::set<int>(assignment.begin(), assignment.end()).size());
  return cost;
}

std::string broken_place(const Chain& chain, const Assignment& assignment) {
  for (int block = 0; block < std::min(chain.min_front_blocks, chain.blocks); ++block) {
    if (assignment[block] != chain.source) return "a front block is not on the source";
  }
  if (chain.last_stage_on_source && assignment.back() != chain.source)
    return "the last stage is not on the source";
  if (!chain.contiguous) return "";
  const std::vector<int> stages = stages_of(assignment);
  for (const int device : stages) {
    const auto visits = std::count(stages.begin(), stages.end(), device);
    const bool may_return = chain.last_stage_on_source && device == chain.source;
    if (visits > (may_return ? 2 : 1)) return "more than one range on " + chain.devices[device].name;
  }
  return "";
}

/// leakage[c] is what the data between blocks c - 1 and c tell; they must not leave the source if that is too
/// much.
std::string broken_leakage(const Chain& chain, const Assignment& assignment) {
  if (chain.leakage.empty()) return "";
  for (int cut = 0; cut < chain.blocks; ++cut) {
    const int from = cut == 0 ? chain.source : assignment[cut - 1];
    if (from == assignment[cut] || assignment[cut] == chain.source) continue;
    if (chain.leakage.at(cut) > chain.max_leakage) return "leakage at cut " + std::to_string(cut);
  }
  return "";
}

std::string broken_limit(const Chain& chain, const Assignment& assignment) {
  Numbers memory(chain.devices.size()), energy(chain.devices.size());
  for (int block = 0; block < chain.blocks; ++block) {
    const Device& device = chain.devices[assignment[block]];
    memory[assignment[block]] += chain.memory_bytes[block];
    if (!device.energy_mj.empty()) energy[assignment[block]] += device.energy_mj.at(block);
  }
  for (size_t i = 0; i < chain.devices.size(); ++i) {
    const Device& device = chain.devices[i];
    if (!device.energy_mj.empty() && !fits(energy[i], device.max_energy_mj))
      return "energy of " + device.name;
  }
  for (size_t i = 0; i < chain.devices.size(); ++i) {
    if (!fits(memory[i], chain.devices[i].memory_bytes)) return kTooLittleMemory + chain.devices[i].name;
  }
  return "";
}

std::string broken_rule(const Chain& chain, const Assignment& assignment) {
  std::string broken = broken_place(chain, assignment);
  if (broken.empty()) broken = broken_leakage(chain, assignment);
  if (broken.empty()) broken = broken_limit(chain, assignment);
  return broken;
}

/// Whether `device` may take the block after `prefix` as far as visits go: saves most of the M^n assignments.
bool may_follow(const Chain& chain, const Assignment& prefix, int device) {
  if (static_cast<int>(prefix.size()) < chain.min_front_blocks && device != chain.source) return false;
  if (!chain.contiguous || prefix.empty() || prefix.back() == device) return true;
  const std::vector<int> stages = stages_of(prefix);
  const auto visits = std::count(stages.begin(), stages.end(), device);
  return visits == 0 || (visits == 1 && device == chain.source && chain.last_stage_on_source);
}

/// `held` is the memory of the blocks on each device: one that is full takes no further block.
void try_all(const Chain& chain, const std::string& objective, Assignment& prefix, Numbers& held,
             Ranking& ranking) {
  const int block = static_cast<int>(prefix.size());
  if (block == chain.blocks) {
    std::string broken = broken_rule(chain, prefix);
    Cost cost;
    cost.ids = prefix;
    if (broken.empty()) cost = cost_of_assignment(chain, objective, prefix);
    cost.broken = std::move(broken);
    ranking.add(std::move(cost));
    return;
  }
  for (int device = 0; device < static_cast<int>(chain.devices.size()); ++device) {
    if (!may_follow(chain, prefix, device)) continue;
    const double before = held[device];
    held[device] += chain.memory_bytes[block];
    prefix.push_back(device);
    if (fits(held[device], chain.devices[device].memory_bytes)) {
      try_all(chain, objective, prefix, held, ranking);
    } else {
      ranking.refuse_for_memory();
    }
    prefix.pop_back();
    held[device] = before;
  }
}

bool same_link(const Link& a, const Link& b) {
  return a.bytes_per_ms == b.bytes_per_ms && a.latency_ms == b.latency_ms;
}

/// Whether nothing changes when the devices `a` and `b` change places.
bool are_equal(const Chain& chain, int a, int b) {
  const Device &one = chain.devices[a], &other = chain.devices[b];
  if (a == chain.source || b == chain.source) return a == b;
  if (one.memory_bytes != other.memory_bytes || one.forward_ms != other.forward_ms ||
      one.backward_ms != other.backward_ms || one.energy_mj != other.energy_mj ||
      one.max_energy_mj != other.max_energy_mj || !same_link(chain.links[a][b], chain.links[b][a])) {
    return false;
  }
  for (int i = 0; i < static_cast<int>(chain.devices.size()); ++i) {
    if (i == a || i == b) continue;
    if (!same_link(chain.links[a][i], chain.links[b][i])) return false;
    if (!same_link(chain.links[i][a], chain.links[i][b])) return false;
  }
  return true;
}

/// Returns what is wrong with the list of stages; fills `assignment` if nothing is.
std::string read_stages(const Chain& chain, const json& plan, Assignment& assignment) {
  if (!plan.contains("stages") || !plan["stages"].is_array()) return "no list of stages";
  for (const json& stage : plan["stages"]) {
    const int device = device_named(chain, stage.at("device"));
    const int first = stage.at("first"), last = stage.at("last");
    if (device < 0) return "unknown device in " + stage.dump();
    if (first != static_cast<int>(assignment.size()) || last < first) return "a gap before " + stage.dump();
    if (last >= chain.blocks) return "too many blocks in " + stage.dump();
    if (!assignment.empty() && assignment.back() == device) return "two stages in a row on one device";
    assignment.resize(last + 1, device);
  }
  return static_cast<int>(assignment.size()) == chain.blocks ? "" : "blocks without a device";
}

}  // namespace

Best best_chain(const json& problem, const std::string& objective, const Filter& filter) {
  const Chain chain = read_chain(problem);
  Ranking ranking(filter);
  Assignment prefix;
  Numbers held(chain.devices.size());
  try_all(chain, objective, prefix, held, ranking);
  return ranking.best();
}

std::vector<int> chain_up_to_equal_devices(const json& problem, const std::vector<int>& ids) {
  const Chain chain = read_chain(problem);
  const int count = static_cast<int>(chain.devices.size());
  std::vector<int> renamed(count, -1), taken(count, 0);
  Assignment result;
  for (const int device : ids) {
    for (int i = 0; i < count && renamed[device] < 0; ++i) {
      if (taken[i] == 1 || !are_equal(chain, device, i)) continue;
      renamed[device] = i;
      taken[i] = 1;
    }
    result.push_back(renamed[device]);
  }
  return result;
}

Cost chain_cost_of(const json& problem, const std::string& objective, const json& plan) {
  const Chain chain = read_chain(problem);
  Assignment assignment;
  if (const std::string wrong = read_stages(chain, plan, assignment); !wrong.empty()) {
    Cost malformed;
    malformed.broken = wrong;
    return malformed;
  }
  Cost cost = cost_of_assignment(chain, objective, assignment);
  cost.broken = broken_rule(chain, assignment);
  for (int block = 0; block < chain.blocks; ++block) {
    cost.memory_bytes[chain.devices[assignment[block]].name] += chain.memory_bytes[block];
  }
  return cost;
}

}  // namespace tandem::brute_force
