#include "core/planning/random_problems.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <vector>

namespace tandem::random_problems {
namespace {

using nlohmann::json;
using Numbers = std::vector<double>;

enum class Style { kIntegers, kTwoValues, kFractions, kMagnitudes };
enum class Memory { kAmple, kTight, kStarved };

/// The distributions of the standard library differ between machines; these do not.
class Dice {
 public:
  explicit Dice(uint64_t seed) : generator_(seed) {}

  /// From `least` to `most`, both included.
  int whole(int least, int most) {
    return least + static_cast<int>(generator_() % static_cast<uint64_t>(most - least + 1));
  }
  bool chance(double probability) { return fraction() < probability; }
  /// From 0 to 1.
  double fraction() { return static_cast<double>(generator_() >> 11) * 0x1p-53; }

  /// A number of the problem's style; zero at times.
  double number() {
    if (chance(zeros)) return 0;
    return positive();
  }
  /// As number(), never zero.
  double positive() {
    switch (style) {
      case Style::kIntegers:
        return whole(1, 5);
      case Style::kTwoValues:
        return whole(1, 2);
      case Style::kFractions:
        return 0.1 + 9.9 * fraction();
      case Style::kMagnitudes:
        return std::pow(10.0, -3 + 7 * fraction());
    }
    return 1;
  }
  Numbers numbers(int count) {
    Numbers drawn(count);
    for (double& one : drawn) one = number();
    return drawn;
  }

  Style style = Style::kIntegers;
  double zeros = 0;

 private:
  std::mt19937_64 generator_;
};

void choose_style(Dice& dice) {
  const int drawn = dice.whole(0, 9);
  dice.style = drawn < 3   ? Style::kIntegers
               : drawn < 5 ? Style::kTwoValues
               : drawn < 8 ? Style::kFractions
                           : Style::kMagnitudes;
  dice.zeros = dice.chance(0.3) ? 0.3 : 0.03;
}

/// `value`, or nothing where the default says the same and the dice leave it out.
template <typename T>
void put(Dice& dice, json& to, const char* name, const T& value, const T& by_default) {
  if (value == by_default && dice.chance(0.5)) return;
  to[name] = value;
}

json random_blocks(Dice& dice, int count) {
  json blocks = json::array();
  for (int i = 0; i < count; ++i) {
    blocks.push_back({{"name", "block-" + std::to_string(i)},
                      {"memory_bytes", dice.number()},
                      {"output_bytes", dice.number()}});
  }
  return blocks;
}

Numbers memory_of(const json& blocks) {
  Numbers memory;
  for (const json& block : blocks) memory.push_back(block["memory_bytes"]);
  return memory;
}

double sum(const Numbers& numbers) {
  return std::accumulate(numbers.begin(), numbers.end(), 0.0);
}

/// The blocks' memory added in another order than the planner's: the last digits may differ.
double sum_backwards(const Numbers& numbers) {
  return std::accumulate(numbers.rbegin(), numbers.rend(), 0.0);
}

/// A limit that holds `held`: exactly, or with a little to spare.
double limit_for(Dice& dice, double held) {
  return dice.chance(0.6) ? held : held * (1 + dice.fraction());
}

json random_link(Dice& dice, bool latency) {
  json link = {{"bytes_per_ms", dice.positive()}};
  put(dice, link, "latency_ms", latency ? dice.number() : 0.0, 0.0);
  return link;
}

json random_links(Dice& dice, int devices) {
  const bool latency = dice.chance(0.5);
  json links = {{"default", random_link(dice, latency)}};
  if (dice.chance(0.15)) links["default"]["bytes_per_ms"] = 1e9;  // transfers that cost nothing
  json overrides = json::array();
  const double share = dice.chance(0.5) ? 0 : dice.fraction();
  for (int from = 0; from < devices; ++from) {
    for (int to = 0; to < devices; ++to) {
      if (from == to || !dice.chance(share)) continue;
      json link = random_link(dice, latency);
      link["from"] = "d" + std::to_string(from);
      link["to"] = "d" + std::to_string(to);
      overrides.push_back(link);
    }
  }
  put(dice, links, "overrides", overrides, json::array());
  return links;
}

/// Devices of one type are equal; at times a type lies, so that it has to be verified.
json random_devices(Dice& dice, int count, int blocks, bool training) {
  json devices = json::array();
  const double twins = dice.chance(0.5) ? 0.7 : 0.1;
  for (int i = 0; i < count; ++i) {
    json device = {{"forward_ms", dice.numbers(blocks)}};
    if (training || dice.chance(0.2)) device["backward_ms"] = dice.numbers(blocks);
    if (dice.chance(0.5)) device["type"] = std::string(1, static_cast<char>('a' + dice.whole(0, 1)));
    if (i > 0 && dice.chance(twins)) {
      device = devices[dice.whole(0, i - 1)];
      if (dice.chance(0.1)) device["forward_ms"][dice.whole(0, blocks - 1)] = dice.number();
    }
    device["name"] = "d" + std::to_string(i);
    devices.push_back(device);
  }
  return devices;
}

/// An assignment that obeys the places of a chain (not its memory), for limits that it just keeps.
std::vector<int> permitted_assignment(Dice& dice, const json& problem, int source, int blocks) {
  const int devices = static_cast<int>(problem["devices"].size());
  std::vector<int> order(devices);
  std::iota(order.begin(), order.end(), 0);
  for (int i = devices - 1; i > 0; --i) std::swap(order[i], order[dice.whole(0, i)]);
  std::swap(order[0], *std::find(order.begin(), order.end(), source));
  std::vector<int> assignment(blocks);
  size_t place = 0;
  for (int block = 0; block < blocks; ++block) {
    if (block >= problem.value("min_front_blocks", 1) && dice.chance(0.5)) ++place;
    assignment[block] = order[std::min(place, order.size() - 1)];
  }
  if (problem.value("last_stage_on_source", false) || problem.value("labels_stay", false))
    assignment.back() = source;
  return assignment;
}

void add_memory_of_devices(Dice& dice, json& problem, int source, Memory memory) {
  const Numbers blocks = memory_of(problem["blocks"]);
  const int count = static_cast<int>(problem["devices"].size());
  std::vector<Numbers> held(count);
  const std::vector<int> assignment =
      permitted_assignment(dice, problem, source, static_cast<int>(blocks.size()));
  for (size_t i = 0; i < blocks.size(); ++i) held[assignment[i]].push_back(blocks[i]);
  const double total = sum(blocks);
  for (int i = 0; i < count; ++i) {
    double limit = total * (1 + dice.whole(0, 2));
    if (memory == Memory::kTight) limit = limit_for(dice, sum_backwards(held[i]));
    if (memory == Memory::kStarved) limit = dice.fraction() * 1.3 * total / count;
    problem["devices"][i]["memory_bytes"] = limit;
  }
  // Twins stay twins: the larger limit of two devices that are equal otherwise.
  if (memory != Memory::kTight || dice.chance(0.5)) return;
  for (int i = 1; i < count; ++i) {
    json& device = problem["devices"][i];
    json& before = problem["devices"][i - 1];
    if (device["forward_ms"] != before["forward_ms"]) continue;
    const double limit = std::max(device["memory_bytes"].get<double>(), before["memory_bytes"].get<double>());
    device["memory_bytes"] = before["memory_bytes"] = limit;
  }
}

void add_limits_of_energy(Dice& dice, json& participants, int blocks) {
  if (!dice.chance(0.1)) return;
  for (json& one : participants) {
    if (!dice.chance(0.6)) continue;
    const Numbers energy = dice.numbers(blocks);
    one["energy_mj"] = energy;
    one["max_energy_mj"] = sum(energy) * dice.fraction() * 1.5;
  }
}

void add_limit_of_leakage(Dice& dice, json& problem, int blocks) {
  if (!dice.chance(0.1)) return;
  Numbers leakage(blocks + 1);
  for (double& one : leakage) one = dice.fraction();
  leakage.back() = 0;
  problem["leakage"] = leakage;
  problem["max_leakage"] = 0.3 + 0.7 * dice.fraction();
}

Memory choose_memory(Dice& dice) {
  const int drawn = dice.whole(0, 19);
  return drawn < 2 ? Memory::kAmple : drawn < 15 ? Memory::kTight : Memory::kStarved;
}

RandomProblem random_chain(Dice& dice, uint64_t number) {
  const char* const objectives[] = {"latency", "throughput", "pipeline"};
  const bool training = number / 3 % 2 == 1;
  const int blocks = dice.whole(2, 6), devices = dice.whole(1, 4), source = dice.whole(0, devices - 1);
  json problem = {{"blocks", random_blocks(dice, blocks)},
                  {"input_bytes", dice.number()},
                  {"devices", random_devices(dice, devices, blocks, training)},
                  {"links", random_links(dice, devices)},
                  {"source", "d" + std::to_string(source)}};
  put(dice, problem, "return_bytes", dice.chance(0.5) ? dice.number() : 0.0, 0.0);
  put(dice, problem, "min_front_blocks", dice.chance(0.6) ? 1 : dice.whole(0, std::min(blocks, 3)), 1);
  put(dice, problem, dice.chance(0.5) ? "last_stage_on_source" : "labels_stay", dice.chance(0.3), false);
  put(dice, problem, "contiguous", !dice.chance(0.3), true);
  put(dice, problem, "micro_batches", dice.whole(1, 8), 1);
  put(dice, problem, "mode", std::string(training ? "training" : "inference"), std::string("inference"));
  add_memory_of_devices(dice, problem, source, choose_memory(dice));
  add_limits_of_energy(dice, problem["devices"], blocks);
  add_limit_of_leakage(dice, problem, blocks);
  return {problem, objectives[number % 3]};
}

void add_cuts(Dice& dice, json& client, int blocks) {
  int least = dice.chance(0.5) ? 1 : dice.whole(0, blocks);
  int most = dice.chance(0.5) ? blocks - 1 : dice.whole(0, blocks);
  if (least > most) std::swap(least, most);
  if (dice.chance(0.3)) least = 0, most = blocks;
  put(dice, client, "min_cut", least, 1);
  put(dice, client, "max_cut", most, blocks - 1);
}

json random_clients(Dice& dice, int count, int blocks) {
  json clients = json::array();
  const double twins = dice.chance(0.5) ? 0.7 : 0.1;
  const bool latency = dice.chance(0.5), optimiser = dice.chance(0.3);
  const int steps = dice.whole(1, 10);
  for (int i = 0; i < count; ++i) {
    json client = {{"forward_ms", dice.numbers(blocks)}, {"backward_ms", dice.numbers(blocks)}};
    client["up_bytes_per_ms"] = dice.positive();
    client["down_bytes_per_ms"] = dice.positive();
    client["steps"] = steps;
    if (optimiser && dice.chance(0.7)) client["optimiser_ms"] = dice.numbers(blocks);
    put(dice, client, "latency_ms", latency ? dice.number() : 0.0, 0.0);
    add_cuts(dice, client, blocks);
    if (i > 0 && dice.chance(twins)) client = clients[dice.whole(0, i - 1)];
    client["name"] = "client-" + std::to_string(i + 1);
    clients.push_back(client);
  }
  return clients;
}

/// Memory for one vector of cuts, or too little of it, at the clients and at the aggregator.
void add_memory_of_clients(Dice& dice, json& problem, Memory memory) {
  const Numbers blocks = memory_of(problem["blocks"]);
  const int count = static_cast<int>(blocks.size());
  const double total = sum(blocks);
  int least = count;
  for (json& client : problem["clients"]) {
    const int cut = dice.whole(client.value("min_cut", 1), client.value("max_cut", count - 1));
    least = std::min(least, cut);
    const double front = sum_backwards(Numbers(blocks.begin(), blocks.begin() + cut));
    double limit = total * (1 + dice.whole(0, 2));
    if (memory == Memory::kTight) limit = limit_for(dice, front);
    if (memory == Memory::kStarved) limit = dice.fraction() * total / 2;
    client["memory_bytes"] = limit;
  }
  if (memory == Memory::kAmple && dice.chance(0.7)) return;
  const double tail = sum_backwards(Numbers(blocks.begin() + least, blocks.end()));
  double limit = total * (1 + dice.whole(0, 1));
  if (memory == Memory::kTight && dice.chance(0.6)) limit = limit_for(dice, tail);
  if (memory == Memory::kStarved) limit = dice.fraction() * total / 2;
  problem["aggregator"]["memory_bytes"] = limit;
}

RandomProblem random_split(Dice& dice, uint64_t number, int clients) {
  const char* const servers[] = {"sequential", "joined", "sharing", "uncontended"};
  const int blocks = dice.whole(2, 6);
  json problem = {
      {"blocks", random_blocks(dice, blocks)},
      {"input_bytes", dice.number()},
      {"aggregator", {{"forward_ms", dice.numbers(blocks)}, {"backward_ms", dice.numbers(blocks)}}},
      {"clients", random_clients(dice, clients, blocks)}};
  if (dice.chance(0.3)) problem["aggregator"]["optimiser_ms"] = dice.numbers(blocks);
  if (dice.chance(0.5)) {
    for (json& block : problem["blocks"]) block["parameter_bytes"] = dice.number();
  }
  put(dice, problem, "labels_stay", dice.chance(0.05), false);
  put(dice, problem, "server", std::string(servers[number % 4]), std::string("sequential"));
  add_memory_of_clients(dice, problem, choose_memory(dice));
  add_limits_of_energy(dice, problem["clients"], blocks);
  add_limit_of_leakage(dice, problem, blocks);
  return {problem, "round"};
}

}  // namespace

RandomProblem random_problem(Kind kind, uint64_t number) {
  Dice dice(number * 3 + static_cast<uint64_t>(kind));
  choose_style(dice);
  switch (kind) {
    case Kind::kTwoNodes:
      return random_split(dice, number, 1);
    case Kind::kClients:
      return random_split(dice, number, dice.whole(1, 4));
    case Kind::kChain:
      break;
  }
  return random_chain(dice, number);
}

}  // namespace tandem::random_problems
