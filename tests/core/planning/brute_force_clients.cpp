// P1 and P3: one aggregator, and a cut for each client.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "core/planning/brute_force_detail.h"

namespace tandem::brute_force {
namespace {

using nlohmann::json;
using Numbers = std::vector<double>;

struct Participant {
  std::string name;
  Numbers forward_ms;
  Numbers backward_ms;
  Numbers optimiser_ms;
  double memory_bytes = std::numeric_limits<double>::infinity();
  Numbers energy_mj;
  double max_energy_mj = 0;
};

struct Client : Participant {
  double up_bytes_per_ms = 0;
  double down_bytes_per_ms = 0;
  double latency_ms = 0;
  double steps = 1;
  int min_cut = 1;
  int max_cut = 0;
};

struct Clients {
  Numbers memory_bytes;
  Numbers output_bytes;
  Numbers parameter_bytes;
  double input_bytes = 0;
  int blocks = 0;
  Participant aggregator;
  std::vector<Client> clients;
  std::string server = "sequential";
  Numbers leakage;
  double max_leakage = 0;
  bool labels_stay = false;
};

/// r, p and q of one client with one cut.
struct Visit {
  double head = 0;
  double server = 0;
  double tail = 0;
};

void read_participant(const json& from, size_t blocks, Participant& to) {
  to.forward_ms = from.at("forward_ms").get<Numbers>();
  to.backward_ms = from.at("backward_ms").get<Numbers>();
  to.optimiser_ms = from.value("optimiser_ms", Numbers(blocks));
  if (from.contains("memory_bytes")) to.memory_bytes = from["memory_bytes"];
  if (from.contains("max_energy_mj")) {
    to.energy_mj = from.at("energy_mj").get<Numbers>();
    to.max_energy_mj = from["max_energy_mj"];
  }
}

Client read_client(const json& from, size_t blocks) {
  Client client;
  read_participant(from, blocks, client);
  client.name = from.at("name");
  client.up_bytes_per_ms = from.at("up_bytes_per_ms");
  client.down_bytes_per_ms = from.at("down_bytes_per_ms");
  client.latency_ms = from.value("latency_ms", 0.0);
  client.steps = from.value("steps", 1.0);
  client.min_cut = from.value("min_cut", 1);
  client.max_cut = from.value("max_cut", static_cast<int>(blocks) - 1);
  return client;
}

Clients read_clients(const json& problem) {
  Clients read;
  for (const json& block : problem.at("blocks")) {
    read.memory_bytes.push_back(block.at("memory_bytes"));
    read.output_bytes.push_back(block.at("output_bytes"));
    read.parameter_bytes.push_back(block.value("parameter_bytes", 0.0));
  }
  const size_t blocks = read.memory_bytes.size();
  read.blocks = static_cast<int>(blocks);
  read.input_bytes = problem.at("input_bytes");
  read_participant(problem.at("aggregator"), blocks, read.aggregator);
  for (const json& client : problem.at("clients")) read.clients.push_back(read_client(client, blocks));
  read.server = problem.value("server", "sequential");
  read.labels_stay = problem.value("labels_stay", false);
  if (problem.contains("max_leakage")) {
    read.leakage = problem.at("leakage").get<Numbers>();
    read.max_leakage = problem["max_leakage"];
  }
  return read;
}

double sum(const Numbers& numbers, int first, int end) {
  return std::accumulate(numbers.begin() + first, numbers.begin() + end, 0.0);
}

double travelling_bytes(const Clients& problem, int cut) {
  if (cut == problem.blocks) return 0;
  return cut == 0 ? problem.input_bytes : problem.output_bytes[cut - 1];
}

Visit visit(const Clients& problem, const Client& client, int cut) {
  const int blocks = problem.blocks;
  const Participant& server = problem.aggregator;
  const double bytes = travelling_bytes(problem, cut);
  Visit times;
  times.head = sum(client.forward_ms, 0, cut);
  times.tail = sum(client.backward_ms, 0, cut) + sum(client.optimiser_ms, 0, cut);
  if (cut == blocks) return times;
  times.head += client.latency_ms + bytes / client.up_bytes_per_ms;
  times.server = sum(server.forward_ms, cut, blocks) + sum(server.backward_ms, cut, blocks) +
                 sum(server.optimiser_ms, cut, blocks);
  if (cut == 0) {
    times.tail = 0;
  } else {
    times.tail += client.latency_ms + bytes / client.down_bytes_per_ms;
  }
  return times;
}

/// When the last client is done if they take their turns in this order. A client with every block takes one
/// too, of no time: the definition excepts nobody.
double makespan(const std::vector<Visit>& visits, const std::vector<int>& order) {
  double clock = 0, end = 0;
  for (const int client : order) {
    const Visit& one = visits[client];
    clock = std::max(clock, one.head) + one.server;
    end = std::max(end, clock + one.tail);
  }
  return end;
}

double sequential(const std::vector<Visit>& visits) {
  std::vector<int> order(visits.size());
  std::iota(order.begin(), order.end(), 0);
  double least = makespan(visits, order);
  while (std::next_permutation(order.begin(), order.end())) least = std::min(least, makespan(visits, order));
  return least;
}

double joined(const std::vector<Visit>& visits) {
  double head = 0, server = 0, tail = 0;
  for (const Visit& one : visits) {
    head = std::max(head, one.head);
    server += one.server;
    tail = std::max(tail, one.tail);
  }
  return head + server + tail;
}

double uncontended(const std::vector<Visit>& visits) {
  double most = 0;
  for (const Visit& one : visits) most = std::max(most, one.head + one.server + one.tail);
  return most;
}

/// Whether the fractions that the clients need to be done at `time` add up to at most one server.
bool shares_suffice(const std::vector<Visit>& visits, double time) {
  double shares = 0;
  for (const Visit& one : visits) {
    const double around = one.head + one.tail;
    if (one.server == 0 ? around > time : around >= time) return false;
    if (one.server > 0) shares += one.server / (time - around);
  }
  return shares <= 1;
}

/// The smallest time at which the shares suffice, by halving down to neighbouring numbers.
double sharing(const std::vector<Visit>& visits) {
  double low = 0, server = 0;
  for (const Visit& one : visits) {
    low = std::max(low, one.head + one.tail);
    server += one.server;
  }
  if (shares_suffice(visits, low)) return low;
  double high = low + server;
  while (!shares_suffice(visits, high)) high *= 1 + 1e-15;  // what rounding may take
  for (;;) {
    const double middle = low + (high - low) / 2;
    if (middle <= low || middle >= high) return high;
    (shares_suffice(visits, middle) ? high : low) = middle;
  }
}

double step_time(const std::string& server, const std::vector<Visit>& visits) {
  if (server == "joined") return joined(visits);
  if (server == "sharing") return sharing(visits);
  if (server == "uncontended") return uncontended(visits);
  return sequential(visits);
}

std::vector<Visit> visits_of(const Clients& problem, const std::vector<int>& cuts) {
  std::vector<Visit> visits;
  for (size_t i = 0; i < cuts.size(); ++i) visits.push_back(visit(problem, problem.clients[i], cuts[i]));
  return visits;
}

std::string broken_rule(const Clients& problem, const std::vector<int>& cuts) {
  for (size_t i = 0; i < cuts.size(); ++i) {
    const Client& client = problem.clients[i];
    if (cuts[i] < client.min_cut || cuts[i] > client.max_cut) return "cut of " + client.name;
    if (problem.labels_stay && cuts[i] < problem.blocks) return "labels of " + client.name;
    if (cuts[i] < problem.blocks && !problem.leakage.empty() &&
        problem.leakage.at(cuts[i]) > problem.max_leakage) {
      return "leakage of " + client.name;
    }
    if (!client.energy_mj.empty() && !fits(sum(client.energy_mj, 0, cuts[i]), client.max_energy_mj)) {
      return "energy of " + client.name;
    }
  }
  for (size_t i = 0; i < cuts.size(); ++i) {
    const Client& client = problem.clients[i];
    if (!fits(sum(problem.memory_bytes, 0, cuts[i]), client.memory_bytes))
      return kTooLittleMemory + client.name;
  }
  const int least = *std::min_element(cuts.begin(), cuts.end());
  const double tail = sum(problem.memory_bytes, least, problem.blocks);
  return fits(tail, problem.aggregator.memory_bytes) ? "" : std::string(kTooLittleMemory) + "the aggregator";
}

/// Everything but the objective.
Cost cost_without_time(const Clients& problem, const std::vector<int>& cuts) {
  Cost cost;
  cost.ids = cuts;
  // Every client takes part, whatever it holds.
  cost.devices = static_cast<int>(cuts.size());
  bool aggregator = false;
  for (const int cut : cuts) {
    aggregator = aggregator || cut < problem.blocks;
    const double bytes = travelling_bytes(problem, cut);
    cost.forward_bytes += bytes;
    cost.all_bytes += cut == 0 ? bytes : 2 * bytes;
  }
  cost.devices += aggregator;
  return cost;
}

void try_all(const Clients& problem, std::vector<int>& cuts, Ranking& ranking) {
  if (cuts.size() == problem.clients.size()) {
    Cost cost = cost_without_time(problem, cuts);
    cost.broken = broken_rule(problem, cuts);
    if (cost.broken.empty()) cost.objective = step_time(problem.server, visits_of(problem, cuts));
    ranking.add(std::move(cost));
    return;
  }
  const Client& client = problem.clients[cuts.size()];
  for (int cut = client.min_cut; cut <= client.max_cut; ++cut) {
    cuts.push_back(cut);
    try_all(problem, cuts, ranking);
    cuts.pop_back();
  }
}

std::string read_cuts(const Clients& problem, const json& plan, std::vector<int>& cuts) {
  if (!plan.contains("cuts") || !plan["cuts"].is_object()) return "no cuts";
  if (plan["cuts"].size() != problem.clients.size()) return "not one cut a client";
  for (const Client& client : problem.clients) {
    if (!plan["cuts"].contains(client.name)) return "no cut of " + client.name;
    cuts.push_back(plan["cuts"][client.name]);
    if (cuts.back() < 0 || cuts.back() > problem.blocks) return "no such cut: that of " + client.name;
  }
  return "";
}

/// The order names every client once.
std::string read_order(const Clients& problem, const json& plan, std::vector<int>& order) {
  std::set<std::string> left;
  for (const Client& client : problem.clients) left.insert(client.name);
  for (const json& name : plan["order"]) {
    if (left.erase(name) == 0) return "in the order: " + name.dump();
    for (size_t i = 0; i < problem.clients.size(); ++i) {
      if (problem.clients[i].name == name) order.push_back(static_cast<int>(i));
    }
  }
  return left.empty() ? "" : "not in the order: " + *left.begin();
}

void fill_memory(const Clients& problem, const std::vector<int>& cuts, Cost& cost) {
  for (size_t i = 0; i < cuts.size(); ++i) {
    cost.memory_bytes[problem.clients[i].name] = sum(problem.memory_bytes, 0, cuts[i]);
  }
  const int least = *std::min_element(cuts.begin(), cuts.end());
  cost.memory_bytes["aggregator"] = sum(problem.memory_bytes, least, problem.blocks);
}

/// Everybody's sums, at the same time or not.
void fill_terms(const Clients& problem, const std::vector<int>& cuts, Cost& cost) {
  for (size_t i = 0; i < cuts.size(); ++i) {
    const Client& client = problem.clients[i];
    const Visit times = visit(problem, client, cuts[i]);
    const double front = sum(client.forward_ms, 0, cuts[i]) + sum(client.backward_ms, 0, cuts[i]) +
                         sum(client.optimiser_ms, 0, cuts[i]);
    const double bytes = travelling_bytes(problem, cuts[i]);
    cost.compute_ms += front + times.server;
    if (cuts[i] < problem.blocks) cost.transfer_ms += client.latency_ms + bytes / client.up_bytes_per_ms;
    if (cuts[i] < problem.blocks && cuts[i] > 0) {
      cost.transfer_ms += client.latency_ms + bytes / client.down_bytes_per_ms;
    }
  }
}

/// The weights of a front travel up and down once a round, each way as one transfer.
void fill_round(const Clients& problem, const std::vector<int>& cuts, Cost& cost) {
  double steps = 0, exchange = 0;
  for (size_t i = 0; i < cuts.size(); ++i) {
    const Client& client = problem.clients[i];
    steps = std::max(steps, client.steps);
    if (cuts[i] == 0) continue;
    const double bytes = sum(problem.parameter_bytes, 0, cuts[i]);
    exchange = std::max(
        exchange, 2 * client.latency_ms + bytes / client.up_bytes_per_ms + bytes / client.down_bytes_per_ms);
  }
  cost.round_ms = steps * cost.objective + exchange;
}

}  // namespace

Best best_clients(const json& problem, const Filter& filter) {
  const Clients read = read_clients(problem);
  Ranking ranking(filter);
  std::vector<int> cuts;
  try_all(read, cuts, ranking);
  return ranking.best();
}

Cost clients_cost_of(const json& problem, const json& plan) {
  const Clients read = read_clients(problem);
  std::vector<int> cuts, order;
  Cost malformed;
  malformed.broken = read_cuts(read, plan, cuts);
  if (!malformed.broken.empty()) return malformed;
  const std::vector<Visit> visits = visits_of(read, cuts);
  const bool ordered = read.server == "sequential" && plan.contains("order");
  if (ordered) malformed.broken = read_order(read, plan, order);
  if (!malformed.broken.empty()) return malformed;
  Cost cost = cost_without_time(read, cuts);
  cost.broken = broken_rule(read, cuts);
  cost.objective = ordered ? makespan(visits, order) : step_time(read.server, visits);
  fill_memory(read, cuts, cost);
  fill_terms(read, cuts, cost);
  fill_round(read, cuts, cost);
  return cost;
}

}  // namespace tandem::brute_force
