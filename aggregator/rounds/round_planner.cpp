#include "tandem/aggregator/rounds/round_planner.h"

#include <algorithm>
#include <string>

#include <nlohmann/json.hpp>

#include "tandem/core/base/random.h"

namespace tandem::aggregator {
namespace {

std::vector<ClientId> seeded_order(const RoundPlan& plan, uint64_t seed, uint32_t round) {
  std::vector<ClientId> names;
  for (const auto& [client, sizes] : plan.batch_sizes) names.push_back(client);
  std::vector<ClientId> order;
  const uint64_t stream = derive_seed(seed, RandomPurpose::kTurn, {round});
  for (const int64_t index : random_permutation(static_cast<int64_t>(names.size()), stream)) {
    order.push_back(names[static_cast<size_t>(index)]);
  }
  return order;
}

nlohmann::json json_of(const std::map<ClientId, int64_t>& counts) {
  nlohmann::json value = nlohmann::json::object();
  for (const auto& [client, count] : counts) value[client.name] = count;
  return value;
}

std::map<ClientId, int64_t> counts_of(const nlohmann::json& value) {
  std::map<ClientId, int64_t> counts;
  for (const auto& [name, count] : value.items()) counts[{name}] = count.get<int64_t>();
  return counts;
}

}  // namespace

Error too_many_steps() {
  return {ErrorCode::kInvalidArgument, "a round has more than " + std::to_string(kMaxStepsOfRound) +
                                           " steps; use a larger --batch-size, fewer --local-epochs or "
                                           "--local-steps"};
}

uint32_t RoundPlan::steps() const {
  size_t most = 0;
  for (const auto& [client, sizes] : batch_sizes) most = std::max(most, sizes.size());
  return static_cast<uint32_t>(most);
}

RoundPlanner::RoundPlanner(RoundPlannerOptions options)
    : options_(options), pool_(options.seed, options.minimum_batch) {}

RoundPlan RoundPlanner::plan(const std::map<ClientId, ClientData>& clients, uint32_t round) {
  RoundPlan plan;
  if (options_.algorithm == Algorithm::kParallel) {
    std::map<ClientId, int64_t> examples;
    for (const auto& [client, data] : clients) examples[client] = data.examples;
    draw_joined_batches(plan, examples);
  } else {
    for (const auto& [client, data] : clients) plan.batch_sizes[client] = cut_batches(data);
  }
  plan_lanes(plan, round);
  return plan;
}

nlohmann::json RoundPlanner::state() const {
  return {{"draws", pool_.state().draws},
          {"remaining", json_of(pool_.state().remaining)},
          {"participants", json_of(participants_)}};
}

void RoundPlanner::load_state(const nlohmann::json& state) {
  pool_.restore({.draws = state.at("draws").get<uint64_t>(), .remaining = counts_of(state.at("remaining"))});
  participants_ = counts_of(state.at("participants"));
}

void RoundPlanner::draw_joined_batches(RoundPlan& plan, const std::map<ClientId, int64_t>& examples) {
  uint32_t steps = 0;
  for (const auto& [client, count] : examples) plan.batch_sizes[client];
  const auto is_full = [&] { return steps > options_.max_steps; };
  const auto add_step = [&] {
    for (const auto& [client, size] : pool_.draw(options_.batch_size)) {
      plan.batch_sizes[client].resize(steps);  // zeros for the steps it sat out
      plan.batch_sizes[client].push_back(size);
    }
    ++steps;
  };
  if (options_.local_steps > 0) {
    if (participants_ != examples) pool_.refill(examples);
    while (steps < options_.local_steps && !is_full()) {
      if (pool_.remaining() == 0) pool_.refill(examples);
      if (pool_.remaining() == 0) break;
      add_step();
    }
  } else {
    for (uint32_t epoch = 0; epoch < options_.local_epochs && !is_full(); ++epoch) {
      pool_.refill(examples);
      while (pool_.remaining() > 0 && !is_full()) add_step();
    }
  }
  participants_ = examples;
  for (auto& [client, sizes] : plan.batch_sizes) sizes.resize(steps);
}

std::vector<uint32_t> RoundPlanner::cut_batches(const ClientData& client) const {
  std::vector<uint32_t> sizes;
  const int64_t fewest = options_.minimum_batch;
  if (client.examples < fewest) return sizes;
  int64_t left = client.examples - static_cast<int64_t>(client.position % client.examples);
  uint32_t epochs_left = options_.local_steps > 0 ? 0 : options_.local_epochs;
  const auto goes_on = [&] {
    if (sizes.size() > options_.max_steps) return false;
    return options_.local_steps > 0 ? sizes.size() < options_.local_steps : epochs_left > 0;
  };
  while (goes_on()) {
    int64_t size = std::min<int64_t>(std::max<int64_t>(options_.batch_size, fewest), left);
    if (left - size < fewest && left != size) size = left;  // a rest too small to stand alone joins
    sizes.push_back(static_cast<uint32_t>(size));
    left -= size;
    if (left > 0) continue;
    left = client.examples;
    if (epochs_left > 0) --epochs_left;
  }
  return sizes;
}

bool RoundPlanner::goes_up(uint32_t step, uint32_t size) const {
  return size > 0 && (step + 1) % options_.tail_interval == 0;
}

void RoundPlanner::plan_lanes(RoundPlan& plan, uint32_t round) const {
  const bool asynchronous = options_.objective != EdgeObjective::kEndToEnd;
  const auto own_steps = [&](const ClientId& client) {
    Lane lane;
    const std::vector<uint32_t>& sizes = plan.batch_sizes.at(client);
    for (uint32_t step = 0; step < sizes.size(); ++step) {
      if (goes_up(step, sizes[step])) lane.push_back({{client, step}});
    }
    return lane;
  };
  switch (options_.algorithm) {
    case Algorithm::kFederated:
      return;
    case Algorithm::kParallel: {
      Lane& lane = plan.lanes.emplace_back();
      for (uint32_t step = 0; step < plan.steps(); ++step) {
        TailStep joined;
        for (const auto& [client, sizes] : plan.batch_sizes) {
          if (goes_up(step, sizes[step])) joined.push_back({client, step});
        }
        if (!joined.empty()) lane.push_back(std::move(joined));
      }
      return;
    }
    case Algorithm::kSplitFedV1:
      for (const auto& [client, sizes] : plan.batch_sizes) plan.lanes.push_back(own_steps(client));
      return;
    case Algorithm::kSplitFedV2:
    case Algorithm::kRelay:
      break;
  }
  plan.turns = seeded_order(plan, options_.seed, round);
  Lane& lane = plan.lanes.emplace_back();
  std::vector<Lane> of_clients;
  size_t longest = 0;
  for (const ClientId& client : plan.turns) {
    of_clients.push_back(own_steps(client));
    longest = std::max(longest, of_clients.back().size());
  }
  if (asynchronous && options_.algorithm == Algorithm::kSplitFedV2) {
    // No client waits for the tail, so all send at the same time: one batch of each in turn.
    for (size_t i = 0; i < longest; ++i) {
      for (const Lane& own : of_clients) {
        if (i < own.size()) lane.push_back(own[i]);
      }
    }
  } else {
    for (Lane& own : of_clients) lane.insert(lane.end(), own.begin(), own.end());
  }
}

}  // namespace tandem::aggregator
