// Disturbed networks: connections that break at any message, single messages lost, everything delivered
// twice. Where no deadline fires the weights are those of a calm run, bit for bit.
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

aggregator::SessionOptions patient(const Flow& flow) {
  auto options = flow_options(flow);
  options.step_deadline = options.update_deadline = std::chrono::hours(1);
  return options;
}

NamedTensors calm_weights(const aggregator::SessionOptions& options) {
  SessionNetwork network(options);
  add_clients(network, kExamples, kHeldOut);
  network.connect_all();
  REQUIRE(network.run());
  REQUIRE(network.session().completed());
  return weights_of(network);
}

void check_undisturbed(SessionNetwork& network, const NamedTensors& expected) {
  CHECK(network.session().completed());
  const std::set<std::string> harmless = {"join", "reconnect", "leave", "replayed", "aligned"};
  for (const EventRecord& event : network.observer.events) {
    CHECK_MESSAGE(harmless.contains(event.event), event.event << " " << event.client << " " << event.detail);
    if (event.event == "leave") CHECK(event.detail == "the run is complete");
  }
  for (const RoundRecord& round : network.observer.rounds) {
    CHECK(round.clients == 3);
    CHECK(round.examples == 77);
    CHECK(round.eval_loss.has_value());
  }
  for (const ClientRecord& record : network.observer.clients) CHECK(record.missed_steps == 0);
  check_bitwise_equal(weights_of(network), expected);
}

}  // namespace

TEST_SUITE("tools/lost_messages") {
  TEST_CASE("connections that break at random messages leave no trace in the weights") {
    for (const Flow& flow : all_flows()) {
      CAPTURE(flow.name);
      const auto options = patient(flow);
      const NamedTensors expected = calm_weights(options);
      for (const uint64_t seed : {1u, 2u, 3u}) {
        CAPTURE(seed);
        SessionNetwork network(options, nullptr, seed);
        add_clients(network, kExamples, kHeldOut);
        SplitMix64 random(derive_seed(seed, RandomPurpose::kNetwork, {1}));
        std::set<size_t> broken;
        int breaks = 0;
        network.on_message = [&](size_t edge, bool, wire::Message& message) {
          // A goodbye that is lost with its connection, behind another message, ends with the edge's silence.
          const bool says_goodbye =
              std::holds_alternative<wire::Bye>(message.body) || network.edge(edge).done();
          const bool breaks_now = !says_goodbye && random.below(10) == 0;
          if (breaks_now && broken.insert(edge).second) ++breaks;
          return broken.contains(edge) ? Fate::kLose : Fate::kDeliver;
        };
        network.connect_all();
        REQUIRE(network.run([&] {
          for (const size_t edge : std::exchange(broken, {})) network.connect(edge);
          return false;
        }));
        CHECK(breaks > 5);
        check_undisturbed(network, expected);
      }
    }
  }

  TEST_CASE("any message lost in either direction comes again and leaves no trace in the weights") {
    for (const Flow& flow : all_flows()) {
      CAPTURE(flow.name);
      const auto options = patient(flow);
      const NamedTensors expected = calm_weights(options);
      for (const uint64_t every : {3u, 5u, 9u}) {
        CAPTURE(every);
        SessionNetwork network(options, nullptr, every);
        add_clients(network, kExamples, kHeldOut);
        SplitMix64 random(derive_seed(every, RandomPurpose::kNetwork, {2}));
        int lost = 0;
        network.on_message = [&](size_t, bool, wire::Message& message) {
          // A goodbye that gets lost ends with the edge's silence, which is seen.
          const bool lose = !std::holds_alternative<wire::Bye>(message.body) && random.below(every) == 0;
          lost += lose;
          return lose ? Fate::kLose : Fate::kDeliver;
        };
        network.connect_all();
        REQUIRE(network.run());
        CHECK(lost > 0);
        check_undisturbed(network, expected);
      }
    }
  }

  TEST_CASE("a repeat of output gradients while the step waits for the others is no reason to skip it") {
    const auto options = patient({"parallel U", "parallel", 1});
    const NamedTensors expected = calm_weights(options);
    SessionNetwork network(options);
    add_clients(network, kExamples, kHeldOut);
    int lost = 0, skips = 0;
    network.on_message = [&](size_t edge, bool, wire::Message& message) {
      skips += std::holds_alternative<wire::Skip>(message.body);
      // Twice, so that the others repeat theirs while it is still missing.
      const bool lose = edge == 2 && std::holds_alternative<wire::OutputGradients>(message.body) && lost < 2;
      lost += lose;
      return lose ? Fate::kLose : Fate::kDeliver;
    };
    network.connect_all();
    REQUIRE(network.run());
    CHECK(skips == 0);
    check_undisturbed(network, expected);
  }

  TEST_CASE("every message delivered twice changes nothing") {
    for (const Flow& flow : all_flows()) {
      CAPTURE(flow.name);
      const auto options = patient(flow);
      const NamedTensors expected = calm_weights(options);
      for (const int which : {0, 1, 2}) {  // up, down, both
        CAPTURE(which);
        SessionNetwork network(options, nullptr, 5);
        add_clients(network, kExamples, kHeldOut);
        network.on_message = [&](size_t, bool up, wire::Message&) {
          return which == 2 || up == (which == 0) ? Fate::kTwice : Fate::kDeliver;
        };
        network.connect_all();
        REQUIRE(network.run());
        check_undisturbed(network, expected);
      }
    }
  }

  TEST_CASE("a run completes whatever single messages get lost, with the deadlines as they come") {
    for (const Flow& flow : all_flows()) {
      CAPTURE(flow.name);
      for (const uint64_t seed : {1u, 2u, 3u}) {
        CAPTURE(seed);
        auto options = flow_options(flow);
        options.step_deadline = options.update_deadline = std::chrono::seconds(20);
        options.round_deadline = std::chrono::seconds(300);
        SessionNetwork network(options, nullptr, seed);
        add_clients(network, kExamples, kHeldOut);
        SplitMix64 random(derive_seed(seed, RandomPurpose::kNetwork, {3}));
        network.on_message = [&](size_t, bool, wire::Message&) {
          return random.below(12) == 0 ? Fate::kLose : Fate::kDeliver;
        };
        network.connect_all();
        REQUIRE(network.run());
        CHECK(network.session().completed());
        CHECK(network.observer.rounds.size() == 2);
        CHECK(finite(weights_of(network)));
      }
    }
  }
}
