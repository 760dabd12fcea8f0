// A rate that is too high is everybody's trouble: the run ends with the reason, whatever is trained and how.
// One client whose values cannot be is its own trouble: the others go on.
#include <functional>
#include <limits>
#include <string>
#include <variant>

#include "tandem/aggregator/strategies/strategy.h"
//
#include "support/session_network.h"
#include "support/test.h"

using namespace tandem;
using namespace tandem::testing;

namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
const std::vector<int> kExamples = {24, 24, 24};

aggregator::SessionOptions diverging(aggregator::SessionOptions options, OptimizerKind kind, double rate) {
  options.plan.optimizer = {.kind = kind, .learning_rate = rate};
  options.plan.rounds = 12;
  options.quarantine_after = 20;
  return options;
}

/// Of a run with three honest clients, which must fail.
std::string failure_of(const aggregator::SessionOptions& options, const std::vector<int>& held_out = {},
                       const Dataset* eval_data = nullptr) {
  SessionNetwork network(options, eval_data);
  add_clients(network, kExamples, held_out);
  network.connect_all();
  REQUIRE_MESSAGE(network.run(), "the run neither ends nor fails");
  REQUIRE_MESSAGE(network.session().failure().has_value(), "the run completed");
  CHECK((network.session().failure()->code == ErrorCode::kNonFinite));
  CHECK(network.session().summary().status == "failed");
  CHECK(network.observer.count("diverged") == 1);
  CHECK(network.observer.count("quarantined") == 0);
  const std::string& message = network.session().failure()->message;
  for (size_t i = 0; i < network.edges(); ++i) {
    REQUIRE(network.edge(i).failure().has_value());
    CHECK(network.edge(i).failure()->message.find("the run failed: " + message) != std::string::npos);
  }
  return message;
}

void check_names_rate(const std::string& message, const std::string& rate) {
  CHECK_MESSAGE(message.find("the training diverges: ") == 0, message);
  CHECK_MESSAGE(message.find("lower --learning-rate (now " + rate + ")") != std::string::npos, message);
}

aggregator::SessionOptions federated(const std::string& strategy) {
  auto options = flow_options({"federated", "federated"});
  options.plan.augment.clear();
  options.strategy = strategy;
  const auto traits = aggregator::strategy_traits(strategy).value();
  options.plan.proximal_mu = traits.proximal_mu;
  options.plan.control_variates = traits.control_variates;
  return options;
}

/// Only the second client's messages are changed.
auto from_client_2(const std::function<void(wire::Body&)>& change) {
  return [change](size_t edge, bool up, wire::Message& message) {
    if (up && edge == 1) change(message.body);
    return Fate::kDeliver;
  };
}

}  // namespace

TEST_SUITE("tools/diverging") {
  TEST_CASE("every flow with every optimiser ends and names the rate") {
    for (const Flow& flow : all_flows()) {
      for (const OptimizerKind kind : {OptimizerKind::kSgd, OptimizerKind::kAdam, OptimizerKind::kAdamW}) {
        for (const auto& [rate, text] : {std::pair{1e3, "1000"}, std::pair{1e10, "1e+10"}}) {
          CAPTURE(flow.name);
          CAPTURE(optimizer_name(kind));
          CAPTURE(rate);
          check_names_rate(failure_of(diverging(flow_options(flow), kind, rate)), text);
        }
      }
    }
  }

  TEST_CASE("every strategy ends and names the rate") {
    for (const std::string& name : aggregator::strategy_names()) {
      CAPTURE(name);
      const bool takes_f = name == "krum" || name == "multi-krum" || name == "bulyan";
      const std::string strategy = name == "fedbuff" ? "fedbuff:buffer=2" : takes_f ? name + ":f=0" : name;
      check_names_rate(failure_of(diverging(federated(strategy), OptimizerKind::kSgd, 1e10)), "1e+10");
    }
  }

  TEST_CASE("fedbuff ends, in both orders, also when it needs everybody") {
    for (const auto order : {aggregator::UpdateOrder::kArrival, aggregator::UpdateOrder::kPlanned}) {
      for (const OptimizerKind kind : {OptimizerKind::kSgd, OptimizerKind::kAdam}) {
        auto options = diverging(federated("fedbuff:buffer=2"), kind, 1e3);
        options.update_order = order;
        options.min_clients = 3;
        options.quarantine_after = 3;
        check_names_rate(failure_of(options), "1000");
      }
    }
  }

  TEST_CASE("a server's rate that is too high is named too") {
    for (const std::string strategy : {"fedadam:eta=1000", "fedbuff:buffer=2,eta=1000"}) {
      CAPTURE(strategy);
      auto options = diverging(federated(strategy), OptimizerKind::kSgd, 0.05);
      CHECK(failure_of(options).find("or eta of --strategy " + strategy) != std::string::npos);
    }
  }

  TEST_CASE("what only the evaluation of the final weights shows ends the run too") {
    auto options = diverging(flow_options({"parallel", "parallel"}), OptimizerKind::kAdam, 1e10);
    options.plan.rounds = 1;
    options.local_steps = 1;
    const auto eval_data = images(40, 8, 1, 9);
    const std::string here = failure_of(options, {}, eval_data.get());
    CHECK_MESSAGE(
        here.find("the training diverges: the evaluation of the final weights gives a loss of") == 0, here);
    const std::string there = failure_of(options, {20, 20, 20});
    CHECK_MESSAGE(there.find("on 3 of 3 devices that evaluate") != std::string::npos, there);
  }

  TEST_CASE("one client whose training cannot be is taken out again and again, and fedbuff goes on") {
    for (const double loss : {static_cast<double>(kNan), 1e30}) {
      auto options = federated("fedbuff:buffer=2");
      options.plan.rounds = 8;
      options.quarantine_after = 5;
      SessionNetwork network(options);
      add_clients(network, kExamples);
      network.on_message = from_client_2([&](wire::Body& body) {
        if (auto* trained = std::get_if<wire::Trained>(&body)) trained->figures.loss_sum = loss;
      });
      network.connect_all();
      REQUIRE(network.run());
      REQUIRE(network.session().completed());
      CHECK(network.observer.find("excluded", "client-2") != nullptr);
      CHECK(network.observer.find("excluded", "client-1") == nullptr);
      CHECK(finite(weights_of(network)));
    }
  }

  TEST_CASE("one client that says an absurd loss is out of the round, and the others go on") {
    auto options = federated("fedavg");
    SessionNetwork network(options);
    add_clients(network, kExamples);
    network.on_message = from_client_2([](wire::Body& body) {
      if (auto* trained = std::get_if<wire::Trained>(&body)) trained->figures.loss_sum = 1e30;
    });
    network.connect_all();
    REQUIRE(network.run());
    REQUIRE(network.session().completed());
    REQUIRE(network.observer.find("excluded", "client-2") != nullptr);
    CHECK(network.observer.find("excluded", "client-2")->detail.find("its mean loss is 4.16667e+28") == 0);
    for (const RoundRecord& round : network.observer.rounds) {
      CHECK(round.clients == 2);
      CHECK(round.loss < 10);
    }
  }

  TEST_CASE("one client's figures of the final weights are its own") {
    auto options = federated("fedavg");
    SessionNetwork network(options);
    add_clients(network, kExamples, {20, 20, 20});
    network.on_message = from_client_2([](wire::Body& body) {
      if (auto* evaluated = std::get_if<wire::Evaluated>(&body)) evaluated->figures.loss_sum = kNan;
    });
    network.connect_all();
    REQUIRE(network.run());
    CHECK(network.session().completed());
  }

  TEST_CASE("one client that is drawn alone cannot end the run") {
    auto options = federated("fedavg");
    options.clients_per_round = 1;
    options.plan.rounds = 10;
    SessionNetwork network(options);
    add_clients(network, kExamples);
    network.on_message = from_client_2([](wire::Body& body) {
      if (auto* trained = std::get_if<wire::Trained>(&body)) trained->figures.loss_sum = kNan;
    });
    network.connect_all();
    REQUIRE(network.run());
    CHECK(network.observer.count("round-abandoned") > 0);
    CHECK(network.session().completed());
  }
}
