// Programs that die and come back: what they go on from gives the weights of a run that nothing disturbed,
// bit for bit, in every flow and wherever they die.
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "tandem/core/base/random.h"
//
#include "support/session_network.h"
#include "support/test.h"

using namespace tandem;
using namespace tandem::testing;

namespace {

const std::vector<int> kExamples = {40, 12, 25};
const std::vector<int> kHeldOut = {20, 0, 300};

aggregator::SessionOptions patient(const Flow& flow, uint32_t checkpoint_steps) {
  auto options = flow_options(flow);
  options.plan.checkpoint_steps = checkpoint_steps;
  options.step_deadline = options.update_deadline = options.client_timeout = std::chrono::hours(1);
  return options;
}

NamedTensors calm_weights(const aggregator::SessionOptions& options,
                          std::vector<RoundRecord>* rounds = nullptr) {
  SessionNetwork network(options);
  add_clients(network, kExamples, kHeldOut);
  network.connect_all();
  REQUIRE(network.run());
  REQUIRE(network.session().completed());
  if (rounds != nullptr) *rounds = network.observer.rounds;
  return weights_of(network);
}

enum class Victim { kEdge, kAggregator, kEverybody, kAnybody };

struct Deaths {
  int edges = 0;
  int aggregators = 0;
};

/// Kills at seeded moments, on average at every so many messages, and brings back at once.
Deaths disturb(SessionNetwork& network, Victim victim, uint64_t every, uint64_t seed) {
  SplitMix64 random(derive_seed(seed, RandomPurpose::kNetwork, {7}));
  Deaths deaths;
  std::set<size_t> dead;
  bool aggregator_dies = false;
  network.on_message = [&](size_t edge, bool, wire::Message& message) {
    if (!dead.empty() || aggregator_dies || deaths.edges + deaths.aggregators >= 40) return Fate::kDeliver;
    if (std::holds_alternative<wire::Bye>(message.body) || random.below(every) != 0) return Fate::kDeliver;
    const Victim who = victim == Victim::kAnybody ? static_cast<Victim>(random.below(3)) : victim;
    if (who != Victim::kAggregator) dead.insert(edge);
    if (who == Victim::kEverybody) {
      for (size_t i = 0; i < network.edges(); ++i) dead.insert(i);
    }
    aggregator_dies = who != Victim::kEdge;
    // With the one that sends it or the one that gets it, the message may or may not be gone.
    return random.below(2) == 0 ? Fate::kLose : Fate::kDeliver;
  };
  network.connect_all();
  REQUIRE(network.run([&] {
    if (dead.empty() && !aggregator_dies) return false;
    deaths.edges += static_cast<int>(dead.size());
    deaths.aggregators += aggregator_dies;
    for (const size_t edge : dead) network.kill(edge);
    if (aggregator_dies) network.restart_aggregator();
    for (size_t edge = 0; edge < network.edges(); ++edge) {
      if (network.edge(edge).phase() == edge_client::EdgeSession::Phase::kFinished) continue;
      if (dead.contains(edge)) {
        network.revive(edge);
      } else if (aggregator_dies) {
        network.connect(edge);
      }
    }
    dead.clear();
    aggregator_dies = false;
    return false;
  }));
  return deaths;
}

void check_undisturbed(SessionNetwork& network, const NamedTensors& expected) {
  std::string events;
  for (const EventRecord& event : network.observer.events) {
    events += std::to_string(event.round) + " " + event.event + " " + event.client + " " + event.detail + "\n";
  }
  CAPTURE(events);
  CHECK(network.session().completed());
  const std::set<std::string> harmless = {"join", "reconnect", "leave", "aligned", "resume"};
  for (const EventRecord& event : network.observer.events) {
    CHECK_MESSAGE(harmless.contains(event.event), event.event << " " << event.client << " " << event.detail);
  }
  for (const RoundRecord& round : network.observer.rounds) {
    CHECK(round.clients == 3);
    CHECK(round.examples == 77);
  }
  check_bitwise_equal(weights_of(network), expected);
}

void check_flow(const Flow& flow, uint32_t checkpoint_steps, Victim victim, uint64_t every) {
  CAPTURE(flow.name);
  CAPTURE(checkpoint_steps);
  const auto options = patient(flow, checkpoint_steps);
  const NamedTensors expected = calm_weights(options);
  for (const uint64_t seed : {1u, 2u, 3u}) {
    CAPTURE(seed);
    SessionNetwork network(options, nullptr, seed);
    add_clients(network, kExamples, kHeldOut);
    const Deaths deaths = disturb(network, victim, every, seed);
    CHECK(deaths.edges + deaths.aggregators > 1);
    check_undisturbed(network, expected);
  }
}

}  // namespace

TEST_SUITE("tools/resume") {
  TEST_CASE("edges that die anywhere and come back leave no trace in the weights") {
    for (const Flow& flow : all_flows()) {
      for (const uint32_t steps : {1u, 3u}) check_flow(flow, steps, Victim::kEdge, 12);
    }
  }

  TEST_CASE("an aggregator that dies anywhere and comes back leaves no trace in the weights") {
    for (const Flow& flow : all_flows()) {
      for (const uint32_t steps : {0u, 1u, 3u}) check_flow(flow, steps, Victim::kAggregator, 12);
    }
  }

  TEST_CASE("everybody dies at once and comes back, and nothing shows in the weights") {
    for (const Flow& flow : all_flows()) {
      for (const uint32_t steps : {0u, 1u, 3u}) check_flow(flow, steps, Victim::kEverybody, 25);
    }
  }

  TEST_CASE("whoever dies, nothing shows in the weights") {
    for (const Flow& flow : all_flows()) {
      for (const uint32_t steps : {1u, 2u}) check_flow(flow, steps, Victim::kAnybody, 15);
    }
  }
}
