// Programs that die and come back: what they go on from gives the weights of a run that nothing disturbed,
// bit for bit, in every flow and wherever they die.
#include <map>
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

struct Outcome {
  NamedTensors weights;
  std::vector<RoundRecord> rounds;
};

Outcome outcome_of(SessionNetwork& network) {
  return {weights_of(network), network.observer.rounds};
}

Outcome calm_run(const aggregator::SessionOptions& options) {
  SessionNetwork network(options);
  add_clients(network, kExamples, kHeldOut);
  network.connect_all();
  REQUIRE(network.run());
  REQUIRE(network.session().completed());
  return outcome_of(network);
}

enum class Victim { kEdge, kAggregator, kEverybody, kAnybody, kPausingEdge };

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
    aggregator_dies = who != Victim::kEdge && who != Victim::kPausingEdge;
    // With the one that sends it or the one that gets it, the message may or may not be gone.
    return random.below(2) == 0 ? Fate::kLose : Fate::kDeliver;
  };
  network.connect_all();
  REQUIRE(network.run([&] {
    if (dead.empty() && !aggregator_dies) return false;
    deaths.edges += static_cast<int>(dead.size());
    deaths.aggregators += aggregator_dies;
    for (const size_t edge : dead) {
      if (victim == Victim::kPausingEdge) {
        network.pause(edge);
      } else {
        network.kill(edge);
      }
    }
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

void check_undisturbed(SessionNetwork& network, const Outcome& expected) {
  std::string events;
  for (const EventRecord& event : network.observer.events) {
    events +=
        std::to_string(event.round) + " " + event.event + " " + event.client + " " + event.detail + "\n";
  }
  CAPTURE(events);
  CHECK(network.session().completed());
  const std::set<std::string> harmless = {"join",    "reconnect", "leave", "replayed",
                                          "aligned", "resume",    "pause"};
  for (const EventRecord& event : network.observer.events) {
    CHECK_MESSAGE(harmless.contains(event.event), event.event << " " << event.client << " " << event.detail);
  }
  // A round that is gone through anew has its record anew.
  std::map<uint32_t, RoundRecord> rounds;
  for (const RoundRecord& round : network.observer.rounds) rounds[round.round] = round;
  REQUIRE(rounds.size() == expected.rounds.size());
  for (const RoundRecord& round : expected.rounds) {
    CHECK(rounds.at(round.round).clients == round.clients);
    CHECK(rounds.at(round.round).examples == round.examples);
    CHECK(rounds.at(round.round).steps == round.steps);
    CHECK(rounds.at(round.round).eval_loss == round.eval_loss);
  }
  check_bitwise_equal(weights_of(network), expected.weights);
}

void check_run(const aggregator::SessionOptions& options, Victim victim, uint64_t every) {
  CAPTURE(options.plan.checkpoint_steps);
  const Outcome expected = calm_run(options);
  for (const uint64_t seed : {1u, 2u, 3u}) {
    CAPTURE(seed);
    SessionNetwork network(options, nullptr, seed);
    network.edges_come_back = true;
    add_clients(network, kExamples, kHeldOut);
    const Deaths deaths = disturb(network, victim, every, seed);
    CHECK(deaths.edges + deaths.aggregators > 1);
    check_undisturbed(network, expected);
  }
}

void check_flow(const Flow& flow, uint32_t checkpoint_steps, Victim victim, uint64_t every) {
  CAPTURE(flow.name);
  check_run(patient(flow, checkpoint_steps), victim, every);
}

aggregator::SessionOptions fedbuff(const std::string& strategy, uint32_t merges) {
  auto options = patient({"federated", "federated"}, 1);
  options.strategy = strategy;
  options.update_order = aggregator::UpdateOrder::kPlanned;
  options.plan.rounds = merges;
  return options;
}

}  // namespace

TEST_SUITE("tools/resume") {
  TEST_CASE("edges that die anywhere and come back leave no trace in the weights") {
    for (const Flow& flow : all_flows()) {
      for (const uint32_t steps : {1u, 3u}) check_flow(flow, steps, Victim::kEdge, 12);
    }
  }

  TEST_CASE("edges that are stopped anywhere and come back leave no trace in the weights") {
    for (const Flow& flow : all_flows()) {
      for (const uint32_t steps : {1u, 3u}) check_flow(flow, steps, Victim::kPausingEdge, 12);
      // They keep where they stand even where nobody keeps single steps; between the halves of a U-shaped one
      // there is no place to stand.
      if (flow.head_blocks == 0) check_flow(flow, 0, Victim::kPausingEdge, 12);
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

  TEST_CASE("fedbuff in planned order goes on in the middle of its buffer, whoever dies") {
    for (const char* strategy : {"fedbuff:buffer=2,eta=0.5", "fedbuff:buffer=7"}) {
      for (const auto victim :
           {Victim::kEdge, Victim::kAggregator, Victim::kEverybody, Victim::kAnybody, Victim::kPausingEdge}) {
        CAPTURE(strategy);
        CAPTURE(static_cast<int>(victim));
        check_run(fedbuff(strategy, 5), victim, victim == Victim::kEverybody ? 25 : 12);
      }
    }
    auto local = fedbuff("fedbuff:buffer=3", 2);
    local.plan.model = "resnet18:norm=batch,width=4";
    local.plan.batch_norm = BatchNormMode::kLocal;
    check_run(local, Victim::kAnybody, 8);
  }
}
