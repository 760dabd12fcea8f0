// Who takes part in a round: drawn, fewest, come late, gone and back.
#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "support/session_network.h"
#include "support/test.h"

using namespace tandem;
using namespace tandem::testing;

namespace {

aggregator::SessionOptions small_options(int clients, const std::string& algorithm = "federated") {
  auto options = base_options("mlp:hidden=8", 1, clients);
  options.plan.algorithm = find_algorithm(algorithm).value();
  options.batch_size = algorithm == "parallel" ? 24 : 8;
  return options;
}

/// Names by round, from the records of complete rounds.
std::map<uint32_t, std::set<std::string>> participants(const RecordingObserver& observer) {
  std::map<uint32_t, std::set<std::string>> by_round;
  for (const ClientRecord& record : observer.clients) by_round[record.round].insert(record.client);
  return by_round;
}

/// Names by round of the clients that were sent BeginRound.
std::map<uint32_t, std::set<std::string>> asked_in(SessionNetwork& network) {
  std::map<uint32_t, std::set<std::string>> asked;
  network.on_message = [&asked](size_t edge, bool, wire::Message& message) {
    if (const auto* begin = std::get_if<wire::BeginRound>(&message.body))
      asked[begin->ordinal].insert(client_name(static_cast<int>(edge)));
    return Fate::kDeliver;
  };
  REQUIRE(network.run());
  network.on_message = nullptr;
  return asked;
}

using Names = std::set<std::string>;

/// Lets so many messages go up, and then these devices fall silent.
std::function<Fate(size_t, bool, wire::Message&)> kill_after(SessionNetwork& network, int messages,
                                                             std::vector<size_t> edges) {
  return [&network, messages, edges = std::move(edges), count = 0](size_t, bool up, wire::Message&) mutable {
    count += up;
    if (count == messages && up) {
      for (const size_t edge : edges) network.kill(edge);
    }
    return Fate::kDeliver;
  };
}

struct Outage {
  int after = 0;  ///< messages that went up; 0: none
  int silent = 0;
  bool aggregator_dies = false;
};

struct OutageOutcome {
  NamedTensors weights;
  int messages = 0;  ///< that went up
  std::vector<RoundRecord> rounds;
  size_t rounds_in_outage = 0;
};

/// A run of three devices. An outage is longer than any deadline; nothing is learned in it, or held against
/// anybody.
OutageOutcome outcome_of_outage(const aggregator::SessionOptions& options, const Outage& outage,
                                const std::vector<int>& examples, const std::vector<int>& held_out) {
  OutageOutcome outcome;
  SessionNetwork network(options);
  add_clients(network, examples, held_out);
  network.connect_all();
  network.on_message = [&](size_t, bool up, wire::Message&) {
    outcome.messages += up;
    return Fate::kDeliver;
  };
  if (outage.after > 0) {
    REQUIRE(network.run([&] { return outcome.messages >= outage.after; }));
    for (int i = 0; i < outage.silent; ++i) network.kill(static_cast<size_t>(i));
    REQUIRE(network.run([&] { return network.observer.count("leave") == outage.silent; }));
    const NamedTensors before = weights_of(network);
    const size_t rounds = network.observer.rounds.size();
    network.pass(std::chrono::minutes(6));
    outcome.rounds_in_outage = network.observer.rounds.size() - rounds;
    check_bitwise_equal(weights_of(network), before);
    if (outage.aggregator_dies) network.restart_aggregator();
    for (int i = 0; i < (outage.aggregator_dies ? 3 : outage.silent); ++i)
      network.connect(static_cast<size_t>(i));
  }
  REQUIRE(network.run());
  REQUIRE(network.session().completed());
  for (const char* event :
       {"missed-step", "missed-merge", "missed-evaluation", "excluded", "round-deadline", "not-resumed"}) {
    CHECK_MESSAGE(network.observer.count(event) == 0, std::string(event));
  }
  outcome.weights = weights_of(network);
  outcome.rounds = network.observer.rounds;
  return outcome;
}

}  // namespace

TEST_SUITE("tools/participation") {
  TEST_CASE(
      "clients_per_round draws exactly that number by the seed, others each time, everyone in the end") {
    for (const std::string algorithm : {"federated", "parallel", "relay"}) {
      CAPTURE(algorithm);
      const auto draw = [&](uint64_t seed, uint64_t arrival_seed) {
        auto options = small_options(8, algorithm);
        options.clients_per_round = 3;
        options.plan.rounds = 16;
        options.plan.seed = seed;
        SessionNetwork network(options, nullptr, arrival_seed);
        add_clients(network, std::vector<int>(8, 8));
        network.connect_all();
        const auto asked = asked_in(network);
        REQUIRE(network.session().completed());
        CHECK(asked == participants(network.observer));
        return asked;
      };
      const auto drawn = draw(7, 0);
      REQUIRE(drawn.size() == 16);
      Names everyone;
      std::set<Names> different;
      for (const auto& [round, names] : drawn) {
        CHECK(names.size() == 3);
        everyone.insert(names.begin(), names.end());
        different.insert(names);
      }
      CHECK(everyone.size() == 8);
      CHECK(different.size() > 8);
      CHECK(draw(7, 1) == drawn);
      CHECK(draw(8, 0) != drawn);
    }
  }

  TEST_CASE("the first round waits for all clients, the others for min_clients") {
    auto options = small_options(3);
    options.min_clients = 2;
    options.plan.rounds = 4;
    SessionNetwork network(options);
    add_clients(network, {8, 8, 8});
    const auto after = [&](std::chrono::seconds time) {
      return [&network, latest = network.now() + time] { return network.now() >= latest; };
    };
    const auto rounds = [&] { return network.observer.rounds.size(); };
    network.connect(0);
    network.connect(1);
    REQUIRE(network.run(after(std::chrono::seconds(60))));
    CHECK_FALSE(network.session().started());
    network.connect(2);
    REQUIRE(network.run([&] { return rounds() == 1; }));
    network.edge(2).leave("off");
    REQUIRE(network.run([&] { return rounds() == 2; }));
    // Round 3 has begun with two; the one that stays does not go on alone.
    network.edge(1).leave("off");
    REQUIRE(network.run(after(std::chrono::seconds(60))));
    CHECK(rounds() == 2);
    REQUIRE(network.observer.find("waiting") != nullptr);
    CHECK(network.observer.find("waiting")->detail ==
          "clients to go on with the round: 1 of 2 are here; gone: client-2, client-3");
    CHECK_FALSE(network.session().done());
    CHECK(network.observer.count("leave") == 2);
    network.restart(1);
    REQUIRE(network.run());
    REQUIRE(network.session().completed());
    const auto by_round = participants(network.observer);
    CHECK(by_round.at(1) == Names{"client-1", "client-2", "client-3"});
    CHECK(network.observer.rounds[2].clients == 1);  // the other's place went with its goodbye
    CHECK(by_round.at(4) == Names{"client-1", "client-2"});
  }

  TEST_CASE("a client that comes in the middle of a round takes part from the next") {
    for (const std::string algorithm : {"parallel", "splitfed-v1", "splitfed-v2", "relay", "federated"}) {
      CAPTURE(algorithm);
      auto options = small_options(2, algorithm);
      options.plan.rounds = 3;
      SessionNetwork network(options);
      add_clients(network, {40, 25, 31});
      network.connect(0);
      network.connect(1);
      int messages = 0;
      network.on_message = [&](size_t, bool up, wire::Message& message) {
        messages += up && (std::holds_alternative<wire::Activations>(message.body) ||
                           std::holds_alternative<wire::Trained>(message.body));
        return Fate::kDeliver;
      };
      REQUIRE(network.run([&] { return messages >= 1; }));
      REQUIRE(network.observer.rounds.empty());
      network.connect(2);
      const auto asked = asked_in(network);
      REQUIRE(network.session().completed());
      CHECK(asked.at(2) == Names{"client-1", "client-2", "client-3"});
      const auto by_round = participants(network.observer);
      CHECK(by_round.at(1) == Names{"client-1", "client-2"});
      CHECK(by_round.at(3) == Names{"client-1", "client-2", "client-3"});
      CHECK(network.observer.rounds[1].clients == 3);
      REQUIRE(network.observer.find("join", "client-3") != nullptr);
      CHECK(network.observer.find("join", "client-3")->round == 1);
      CHECK(network.edge(2).phase() == edge_client::EdgeSession::Phase::kFinished);
    }
  }

  TEST_CASE("a client that leaves in the middle of a round and comes back goes on with its examples") {
    auto options = small_options(3);
    options.min_clients = 2;
    options.plan.rounds = 4;
    options.local_steps = 2;
    SessionNetwork network(options);
    add_clients(network, {40, 40, 40});
    std::map<uint32_t, std::map<size_t, uint64_t>> first_example;
    network.on_message = [&](size_t edge, bool, wire::Message& message) {
      if (const auto* begin = std::get_if<wire::BeginRound>(&message.body))
        first_example[begin->ordinal][edge] = begin->first_example;
      return Fate::kDeliver;
    };
    network.connect_all();
    REQUIRE(network.run([&] { return network.observer.rounds.size() == 1 && first_example[2].size() == 3; }));
    network.edge(2).leave("off");
    REQUIRE(network.run([&] { return network.observer.rounds.size() == 2; }));
    REQUIRE(network.observer.find("leave", "client-3") != nullptr);
    CHECK(network.observer.find("leave", "client-3")->detail == "off");
    CHECK(network.observer.rounds[1].clients == 2);
    CHECK_FALSE(network.session().done());
    REQUIRE(network.run([&] { return first_example[3].size() >= 2; }));
    network.restart(2);
    REQUIRE(network.run());
    REQUIRE(network.session().completed());
    CHECK(network.observer.rounds[3].clients == 3);
    CHECK(first_example[3].size() == 2);
    // 16 examples a round were planned for it in rounds 1 and 2, and round 3 passed without it.
    CHECK(first_example[4] == std::map<size_t, uint64_t>{{0, 48}, {1, 48}, {2, 32}});
  }

  TEST_CASE("the same program back after a silence takes part from the next round") {
    for (const std::string algorithm : {"parallel", "splitfed-v1", "splitfed-v2", "relay", "federated"}) {
      CAPTURE(algorithm);
      auto options = small_options(3, algorithm);
      options.min_clients = 2;
      options.plan.rounds = 4;
      SessionNetwork network(options);
      add_clients(network, {40, 40, 40});
      network.connect_all();
      REQUIRE(network.run([&] { return network.observer.rounds.size() == 1; }));
      network.kill(1);
      REQUIRE(network.run([&] { return network.observer.find("leave", "client-2") != nullptr; }));
      network.connect(1);
      REQUIRE(network.run());
      REQUIRE(network.session().completed());
      CHECK(network.observer.rounds[3].clients == 3);
      CHECK(network.edge(1).phase() == edge_client::EdgeSession::Phase::kFinished);
    }
  }

  TEST_CASE(
      "with too few clients a run stands still wherever it is, and goes on as if nothing had happened") {
    for (const Flow& flow : all_flows()) {
      CAPTURE(flow.name);
      auto options = flow_options(flow);
      options.min_clients = 3;
      options.round_deadline = std::chrono::seconds(100);
      options.plan.checkpoint_steps = 1;
      const auto run = [&](const Outage& outage) {
        OutageOutcome outcome = outcome_of_outage(options, outage, {40, 25, 31}, {20, 0, 30});
        CHECK(outcome.rounds.back().clients == 3);
        return outcome;
      };
      const OutageOutcome calm = run({});
      for (const int silent : {1, 3}) {
        for (const int sixth : {1, 2, 3, 4, 5}) {
          CAPTURE(silent);
          CAPTURE(sixth);
          check_bitwise_equal(run({.after = calm.messages * sixth / 6, .silent = silent}).weights,
                              calm.weights);
        }
      }
      CAPTURE("the aggregator dies in the outage");
      const Outage outage{.after = calm.messages / 2, .silent = 1, .aggregator_dies = true};
      check_bitwise_equal(run(outage).weights, calm.weights);
    }
  }

  TEST_CASE("within a round it says what it waits for") {
    auto options = small_options(3, "parallel");
    options.min_clients = 2;
    SessionNetwork network(options);
    add_clients(network, {40, 25, 31});
    network.connect_all();
    network.on_message = kill_after(network, 4, {0, 1});
    REQUIRE(network.run([&] { return network.observer.count("waiting") == 1; }));
    CHECK(network.session().waiting_for() ==
          "clients to go on with the round: 1 of 2 are here; gone: client-1, client-2");
    network.connect(0);
    REQUIRE(network.run([&] { return network.observer.count("going-on") == 1; }));
    CHECK(network.session().waiting_for() == "");
    CHECK(network.observer.find("going-on")->detail == "2 clients are here");
    REQUIRE(network.run());
  }

  TEST_CASE("a place that is kept goes to nobody else, and not to a device that may come no more") {
    for (const bool revoked : {false, true}) {
      CAPTURE(revoked);
      auto options = small_options(3, "parallel");
      options.min_clients = 2;
      options.plan.rounds = 1;
      options.client_timeout = std::chrono::hours(1);
      options.step_deadline = std::chrono::hours(9);
      SessionNetwork network(options);
      add_clients(network, {40, 40, 40});
      network.connect_all();
      network.on_message = kill_after(network, 4, {0, 1});
      REQUIRE(network.run([&] { return network.observer.count("waiting") == 1; }));
      if (revoked) {
        network.session().revoke({"client-1"}, "its key was taken off the device list");
      } else {
        network.restart(0);  // another program with its key: the place is gone, and it takes part next time
      }
      network.connect(1);
      const auto since = network.now();
      REQUIRE(network.run());
      REQUIRE(network.session().completed());
      CHECK(network.now() - since < std::chrono::minutes(1));
      CHECK(network.observer.rounds[0].clients == 2);
      CHECK(network.observer.find("leave", "client-1")->detail == "silent for 3600000 ms");
      CHECK(network.observer.count("missed-step") == 0);
    }
  }

  TEST_CASE("rounds that lost everybody to silence are no sign of divergence") {
    auto options = small_options(1, "parallel");
    options.plan.rounds = 1;
    SessionNetwork network(options);
    add_clients(network, {40});
    network.connect_all();
    int messages = 0;
    network.on_message = [&](size_t, bool up, wire::Message&) {
      messages += up;
      return Fate::kDeliver;
    };
    for (int i = 1; i <= 5; ++i) {
      messages = 0;
      REQUIRE(network.run([&] { return messages >= 2; }));
      network.kill(0);
      REQUIRE(network.run([&] { return network.observer.count("waiting") == i; }));
      network.restart(0);
    }
    REQUIRE(network.run());
    CHECK(network.session().completed());
    CHECK(network.observer.count("round-abandoned") == 5);
  }

  TEST_CASE("a client that comes and goes does not fill the record") {
    auto options = small_options(2, "parallel");
    options.min_clients = 2;
    SessionNetwork network(options);
    add_clients(network, {40, 40});
    network.connect_all();
    REQUIRE(network.run([&] { return network.session().started(); }));
    for (int i = 0; i < 200; ++i) {
      network.session().revoke({"client-1"}, "flapping");
      network.restart(0);
      REQUIRE(network.run([&] { return network.session().waiting_for().empty(); }));
    }
    CHECK(network.observer.count("waiting") <= 50);
    CHECK(network.observer.count("going-on") <= 50);
  }

  TEST_CASE("once enough are there again, those still away have as long again to come back") {
    auto options = small_options(4, "parallel");
    options.min_clients = 2;
    options.plan.rounds = 1;
    options.step_deadline = std::chrono::minutes(10);
    SessionNetwork network(options);
    add_clients(network, {40, 40, 40, 40});
    network.connect_all();
    int messages = 0;
    network.on_message = [&](size_t, bool up, wire::Message&) {
      messages += up;
      return Fate::kDeliver;
    };
    REQUIRE(network.run([&] { return messages >= 9; }));
    for (size_t i = 0; i < 4; ++i) network.kill(i);
    REQUIRE(network.run([&] { return network.observer.count("waiting") == 1; }));
    CHECK(network.observer.count("leave") == 4);
    network.pass(std::chrono::minutes(6));
    network.connect(0);
    network.connect(1);
    REQUIRE(network.run([&] { return network.observer.count("going-on") == 1; }));
    network.pass(options.client_timeout / 2);
    network.connect(2);
    REQUIRE(network.run());
    REQUIRE(network.session().completed());
    CHECK(network.observer.rounds[0].clients == 3);  // all but the one that stayed away
    CHECK(network.observer.count("excluded") == 0);
  }

  TEST_CASE("fedbuff takes no update while too few clients are there, and loses none") {
    auto options = small_options(3);
    options.strategy = "fedbuff:buffer=2";
    options.min_clients = 3;
    options.plan.rounds = 6;
    options.plan.checkpoint_steps = 1;
    options.update_order = aggregator::UpdateOrder::kPlanned;
    const auto run = [&](const Outage& outage) {
      OutageOutcome outcome = outcome_of_outage(options, outage, {40, 40, 40}, {20, 20, 0});
      CHECK(outcome.rounds_in_outage == 0);
      CHECK(outcome.rounds.size() == 6);
      CHECK(outcome.rounds.back().eval_accuracy.has_value());
      return outcome;
    };
    const OutageOutcome calm = run({});
    for (int after = 4; after < calm.messages - 6; after += 3) {
      for (const int silent : {1, 3}) {
        CAPTURE(after);
        CAPTURE(silent);
        check_bitwise_equal(run({.after = after, .silent = silent}).weights, calm.weights);
      }
    }
    options.update_order = aggregator::UpdateOrder::kArrival;
    for (int after = 4; after < calm.messages - 6; ++after) {
      CAPTURE(after);
      run({.after = after, .silent = 1});
    }
  }
}
