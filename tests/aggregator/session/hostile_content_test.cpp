// A participant that sends well-formed messages with bad content: it is named, the others finish, the weights
// stay finite. The client is an honest session whose messages are changed on their way.
#include <functional>
#include <limits>
#include <string>
#include <variant>
#include <vector>

#include "tandem/core/base/random.h"
//
#include "support/session_network.h"
#include "support/test.h"

using namespace tandem;
using namespace tandem::testing;

namespace {

const std::vector<int> kExamples = {24, 24, 24};
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct Attack {
  std::string name;
  std::function<bool(wire::Message&)> change;  ///< true when it changed something
  std::string event;
  std::string detail;  ///< part of it
};

template <class T>
std::function<bool(wire::Message&)> on(const std::function<void(T&)>& change) {
  return [change](wire::Message& message) {
    T* body = std::get_if<T>(&message.body);
    if (body != nullptr) change(*body);
    return body != nullptr;
  };
}

/// A run in which everything that client-2 sends in round 1 is open to the attack.
void check_attack(aggregator::SessionOptions options, const Attack& attack) {
  CAPTURE(attack.name);
  SessionNetwork network(options);
  add_clients(network, kExamples);
  int attacks = 0;
  network.on_message = [&](size_t edge, bool up, wire::Message& message) {
    if (up && edge == 1 && message.key.round == 1 && attack.change(message)) ++attacks;
    return Fate::kDeliver;
  };
  network.connect_all();
  REQUIRE(network.run());
  CHECK(attacks >= 1);
  REQUIRE(network.session().completed());
  REQUIRE(network.observer.rounds.size() == 2);
  REQUIRE(network.observer.clients.size() == 6);
  CHECK(finite(weights_of(network)));
  CHECK(network.session().refused_messages() >= 1);
  const EventRecord* event = network.observer.find(attack.event, "client-2");
  REQUIRE_MESSAGE(event != nullptr, "no event " << attack.event << " names client-2");
  CHECK_MESSAGE(event->detail.find(attack.detail) != std::string::npos, event->detail);
  CHECK(network.observer.find(attack.event, "client-1") == nullptr);
  CHECK(network.observer.rounds[0].clients >= 2);
  CHECK(network.observer.rounds[1].clients == 3);
  for (const size_t honest : {0u, 2u}) {
    CHECK(network.observer.clients[honest].missed_steps == 0);
    CHECK(network.edge(honest).phase() == edge_client::EdgeSession::Phase::kFinished);
  }
}

using wire::Activations;
using wire::OutputGradients;
using wire::Trained;
using wire::WeightUpdate;

Fate nan_from_client_2(size_t edge, bool up, wire::Message& message) {
  auto* data = std::get_if<Activations>(&message.body);
  if (up && edge == 1 && data != nullptr) data->activations = at::full_like(data->activations, kNan);
  return Fate::kDeliver;
}

}  // namespace

TEST_SUITE("aggregator/session/hostile_content") {
  TEST_CASE("bad activations name the client, whatever the flow") {
    const auto set = [](const std::function<void(Activations&)>& change) { return on<Activations>(change); };
    for (const Flow& flow : all_flows()) {
      if (flow.algorithm == "federated") continue;
      CAPTURE(flow.name);
      const auto options = flow_options(flow);
      const bool shaped = flow.head_blocks > 0;
      const std::vector<Attack> attacks = {
          {"NaN", set([](auto& body) { body.activations = at::full_like(body.activations, kNan); }),
           "bad-activations", "expected finite values up to"},
          {"1e30", set([](auto& body) { body.activations = at::full_like(body.activations, 1e30); }),
           "bad-activations", "expected finite values up to"},
          {"shape", set([](auto& body) { body.activations = body.activations.flatten(1); }),
           "bad-activations", "activations have shape"},
          {"one example more", set([](auto& body) {
             body.activations = at::cat({body.activations, body.activations.narrow(0, 0, 1)});
           }),
           "bad-activations", "activations have shape"},
          {"a scalar", set([](auto& body) { body.activations = at::zeros({}); }), "bad-activations",
           "activations have shape"},
          {"nothing", set([](auto& body) { body.activations = at::zeros({0}); }), "bad-activations",
           "activations have shape"},
          {"dtype", set([](auto& body) { body.activations = body.activations.to(at::kDouble); }),
           "bad-activations", "Double"},
          {"labels out of range",
           set([](auto& body) { body.labels = at::full({body.activations.size(0)}, 4, at::kLong); }),
           "bad-activations", shaped ? "they stay on the device" : "labels range from 4 to 4"},
          {"labels of a class for each pixel", set([](auto& body) {
             body.labels = at::zeros({2, 2}, at::kLong);
           }),
           "bad-activations", "labels have shape 2x2 Long"},
      };
      for (const Attack& attack : attacks) check_attack(options, attack);
    }
  }

  TEST_CASE("bad output gradients name the client, and its step goes on without it") {
    const auto set = [](const std::function<void(OutputGradients&)>& change) {
      return on<OutputGradients>(change);
    };
    for (const Flow& flow : all_flows()) {
      if (flow.head_blocks == 0) continue;
      CAPTURE(flow.name);
      const std::vector<Attack> attacks = {
          {"NaN", set([](auto& body) { body.gradient = at::full_like(body.gradient, kNan); }), "bad-gradient",
           "nan, expected finite values up to"},
          {"shape", set([](auto& body) {
             body.gradient = at::zeros({1, 1});
           }),
           "bad-gradient", "output gradients have shape 1x1 Float, expected"},
          {"a scalar", set([](auto& body) { body.gradient = at::zeros({}); }), "bad-gradient",
           "output gradients have shape"},
          {"dtype", set([](auto& body) { body.gradient = body.gradient.to(at::kInt); }), "bad-gradient",
           "Int, expected"},
          {"loss", set([](auto& body) { body.figures.loss_sum = kNan; }), "bad-gradient", "a loss of nan"},
          {"correct", set([](auto& body) { body.figures.correct = 1000; }), "bad-gradient", "1000 right of"},
      };
      for (const Attack& attack : attacks) check_attack(flow_options(flow), attack);
    }
  }

  TEST_CASE("output gradients out of turn change nothing and are answered with Skip") {
    for (const Flow& flow : all_flows()) {
      if (flow.algorithm == "federated") continue;
      CAPTURE(flow.name);
      auto options = flow_options(flow);
      options.step_deadline = std::chrono::seconds(5);
      SessionNetwork network(options);
      add_clients(network, kExamples);
      int skips = 0;
      network.on_message = [&](size_t edge, bool up, wire::Message& message) {
        if (edge != 1 || message.key.round != 1) return Fate::kDeliver;
        if (up && std::holds_alternative<Activations>(message.body))
          message.body = OutputGradients{.gradient = at::zeros({8, 4}), .figures = {8, 8, 0}};
        skips += !up && std::holds_alternative<wire::Skip>(message.body);
        return Fate::kDeliver;
      };
      network.connect_all();
      REQUIRE(network.run());
      CHECK(skips >= 2);
      REQUIRE(network.session().completed());
      REQUIRE(network.observer.clients.size() == 6);
      CHECK(network.observer.rounds[1].clients == 3);
      CHECK(network.observer.clients[0].missed_steps == 0);
      CHECK(network.observer.clients[2].missed_steps == 0);
    }
  }

  TEST_CASE("a round's result that cannot be excludes the client until the next round") {
    const auto set = [](const std::function<void(Trained&)>& change) { return on<Trained>(change); };
    const std::vector<Attack> attacks = {
        {"NaN", set([](auto& body) { body.figures.loss_sum = kNan; }), "excluded", "a loss of nan and"},
        {"infinity", set([](auto& body) { body.figures.loss_sum = INFINITY; }), "excluded", "a loss of inf"},
        {"more examples than planned", set([](auto& body) { body.figures.examples = 25; }), "excluded",
         "of 25 examples, expected finite figures of at most 24"},
        {"all of them", set([](auto& body) { body.figures.examples = ~uint64_t{0}; }), "excluded",
         "at most 24"},
        {"correct", set([](auto& body) { body.figures.correct = 25; }), "excluded",
         "25 right of 24 examples"},
    };
    for (const Flow& flow : all_flows()) {
      if (flow.algorithm != "federated" && flow.objective == EdgeObjective::kEndToEnd) continue;
      CAPTURE(flow.name);
      for (const Attack& attack : attacks) check_attack(flow_options(flow), attack);
    }
  }

  TEST_CASE("a bad front is left out and names the client, whatever the flow") {
    const auto set = [](const std::function<void(WeightUpdate&)>& change) {
      return on<WeightUpdate>(change);
    };
    const std::vector<Attack> attacks = {
        {"a wrong name", set([](auto& body) { body.weights[0].name = "9.0.weight"; }), "bad-front",
         "9.0.weight"},
        {"an empty name", set([](auto& body) { body.weights[0].name = ""; }), "bad-front", ""},
        {"the same twice", set([](auto& body) { body.weights[1] = body.weights[0]; }), "bad-front", ""},
        {"none", set([](auto& body) { body.weights.clear(); }), "bad-front", ""},
        {"one missing", set([](auto& body) { body.weights.pop_back(); }), "bad-front", ""},
        {"one more", set([](auto& body) {
           body.weights.push_back({"extra", at::zeros({1})});
         }),
         "bad-front", ""},
        {"shape", set([](auto& body) {
           body.weights[0].tensor = at::zeros({3, 3});
         }),
         "bad-front", "[3, 3]"},
        {"dtype", set([](auto& body) { body.weights[0].tensor = body.weights[0].tensor.to(at::kDouble); }),
         "bad-front", ""},
        {"NaN", set([](auto& body) { body.weights[0].tensor = at::full_like(body.weights[0].tensor, kNan); }),
         "bad-front", ""},
    };
    for (const Flow& flow : all_flows()) {
      CAPTURE(flow.name);
      for (const Attack& attack : attacks) check_attack(flow_options(flow), attack);
    }
  }

  TEST_CASE("a bad change of control variates is left out and names the client") {
    const auto set = [](const std::function<void(WeightUpdate&)>& change) {
      return on<WeightUpdate>(change);
    };
    const std::vector<Attack> attacks = {
        {"shape", set([](auto& body) {
           body.control_change[0].tensor = at::zeros({3, 3});
         }),
         "bad-front", "control change"},
        {"name", set([](auto& body) { body.control_change[0].name = "x"; }), "bad-front", "control change"},
        {"NaN", set([](auto& body) {
           body.control_change[0].tensor = at::full_like(body.control_change[0].tensor, kNan);
         }),
         "bad-front", "control change"},
        {"one missing", set([](auto& body) { body.control_change.pop_back(); }), "bad-front",
         "control change"},
        {"one more", set([](auto& body) {
           body.control_change.push_back({"x", at::zeros({1})});
         }),
         "bad-front", "control change"},
    };
    for (const std::string algorithm : {"federated", "parallel", "splitfed-v1", "splitfed-v2"}) {
      CAPTURE(algorithm);
      auto options = flow_options({algorithm, algorithm});
      options.plan.optimizer = {.learning_rate = 0.05};
      options.strategy = "scaffold";
      options.plan.control_variates = true;
      for (const Attack& attack : attacks) check_attack(options, attack);
    }
  }

  TEST_CASE("a client cannot weigh more than the examples whose answers it was sent") {
    for (const Flow& flow : all_flows()) {
      CAPTURE(flow.name);
      const auto train = [&](bool lies) {
        auto options = flow_options(flow);
        options.plan.rounds = 1;
        SessionNetwork network(options);
        add_clients(network, kExamples);
        network.on_message = [&](size_t edge, bool up, wire::Message& message) {
          auto* update = std::get_if<WeightUpdate>(&message.body);
          if (lies && up && edge == 1 && update != nullptr) {
            update->examples = 1'000'000;
            update->steps = 0xFFFFFFFF;
          }
          return Fate::kDeliver;
        };
        network.connect_all();
        REQUIRE(network.run());
        CHECK(network.session().completed());
        return weights_of(network);
      };
      check_bitwise_equal(train(true), train(false));
    }
  }

  TEST_CASE("messages of another kind than the round waits for never stop the others") {
    SplitMix64 random(derive_seed(5, RandomPurpose::kNetwork, {}));
    for (const Flow& flow : all_flows()) {
      CAPTURE(flow.name);
      for (int run = 0; run < 4; ++run) {
        CAPTURE(run);
        auto options = flow_options(flow);
        options.step_deadline = std::chrono::seconds(5);
        options.update_deadline = std::chrono::seconds(5);
        options.round_deadline = std::chrono::seconds(60);
        SessionNetwork network(options);
        add_clients(network, kExamples, {20, 20, 20});
        network.on_message = [&](size_t edge, bool up, wire::Message& message) {
          if (!up || edge != 1 || message.key.round == 0 || random.below(3) != 0) return Fate::kDeliver;
          const NamedTensors front = {{"0.0.weight", at::zeros({1, 2, 3})}};
          const at::Tensor values = random.below(2) == 0 ? at::zeros({4, 4}) : at::full({}, kNan);
          const std::vector<wire::Body> bodies = {
              wire::Activations{values, at::zeros({4}, at::kLong)},
              wire::OutputGradients{values, {4, 1.0, 1}},
              wire::Trained{{4, 1.0, 1}},
              wire::WeightUpdate{.examples = 4, .steps = 1, .weights = front, .control_change = front},
              wire::Evaluated{{20, 1.0, 1}},
              wire::BeginRound{.batch_sizes = {1}, .weights = front},
              wire::EndRound{true},
              wire::Outputs{values},
              wire::Gradients{values, {4, 1.0, 1}},
              wire::Receipt{},
              wire::Skip{true, "x"},
              wire::Evaluate{front},
              wire::Finish{0, 0, front},
              wire::Welcome{}};
          message.body = bodies[random.below(bodies.size())];
          message.key.step += static_cast<uint32_t>(random.below(3));
          message.key.round += static_cast<uint32_t>(random.below(2));
          return random.below(2) == 0 ? Fate::kDeliver : Fate::kTwice;
        };
        network.connect_all();
        REQUIRE(network.run());
        CHECK(network.session().completed());
        CHECK(finite(weights_of(network)));
        for (const RoundRecord& round : network.observer.rounds) CHECK(round.clients >= 2);
        for (const ClientRecord& record : network.observer.clients) {
          if (record.client != "client-2") CHECK(record.missed_steps == 0);
        }
      }
    }
  }

  TEST_CASE("a client that goes on sending nonsense is quarantined and named, also after a resume") {
    auto options = flow_options({"parallel", "parallel"});
    options.plan.rounds = 6;
    options.plan.checkpoint_steps = 1;
    options.quarantine_after = 4;
    SessionNetwork network(options);
    add_clients(network, kExamples);
    network.on_message = nan_from_client_2;
    network.connect_all();
    // Two bad steps put it out of a round: the fourth comes in the second.
    REQUIRE(network.run([&] { return network.observer.find("quarantined") != nullptr; }));
    const EventRecord* event = network.observer.find("quarantined", "client-2");
    REQUIRE(event != nullptr);
    CHECK(event->round == 2);
    CHECK(event->detail.find("4 messages that made no sense") != std::string::npos);
    REQUIRE(network.run([&] { return network.edge(1).done(); }));
    CHECK(network.edge(1).failure()->message.find("quarantine") != std::string::npos);

    network.restart_aggregator();
    for (const size_t edge : {0u, 2u}) network.connect(edge);
    network.restart(1);
    REQUIRE(network.run());
    CHECK(network.session().completed());
    CHECK(network.edge(1).failure()->message.find("quarantine") != std::string::npos);
    CHECK(network.observer.count("quarantined") == 1);
    CHECK(network.observer.rounds.back().clients == 2);
    CHECK(finite(weights_of(network)));
  }

  TEST_CASE("without a limit a client is only left out of each round") {
    auto options = flow_options({"parallel", "parallel"});
    options.plan.rounds = 4;
    SessionNetwork network(options);
    add_clients(network, kExamples);
    network.on_message = nan_from_client_2;
    network.connect_all();
    REQUIRE(network.run());
    CHECK(network.session().completed());
    CHECK(network.observer.count("excluded") == 4);
    CHECK(network.observer.count("quarantined") == 0);
  }
}
