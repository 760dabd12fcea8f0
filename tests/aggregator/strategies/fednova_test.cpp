#include "tandem/aggregator/strategies/fednova_detail.h"

#include "merging.h"
//
#include "support/test.h"

using namespace tandem;
using namespace tandem::aggregator;
using namespace tandem::aggregator::testing;

namespace {

ClientUpdate stepped(const std::string& client, const std::vector<double>& values, uint64_t examples,
                     uint32_t steps) {
  ClientUpdate made = update(client, weights(values), examples);
  made.steps = steps;
  return made;
}

/// Local SGD under a constant gradient of 1: the distance it goes at a learning rate of 1.
double simulated_norm(uint32_t steps, double momentum) {
  double velocity = 0;
  double distance = 0;
  for (uint32_t i = 0; i < steps; ++i) {
    velocity = momentum * velocity + 1;
    distance += velocity;
  }
  return distance;
}

}  // namespace

TEST_SUITE("aggregator/strategies/fednova") {
  TEST_CASE("the reference vector") {
    const auto strategy = make("fednova");
    const auto result =
        merged(*strategy, weights({0, 0}),
               {stepped("a", {-.1, .2}, 1, 1), stepped("b", {-.5, .1}, 2, 5), stepped("c", {-1, .4}, 7, 10)});
    CHECK(error_of(result[0].tensor, {-.81, .4212}) < 1e-6);
  }

  TEST_CASE("the norm is the distance that SGD with momentum goes under a constant gradient") {
    for (const uint32_t steps : {1u, 2u, 7u, 100u}) {
      for (const double momentum : {0.0, 0.5, 0.9}) {
        CAPTURE(steps);
        CAPTURE(momentum);
        CHECK(fednova_norm(steps, momentum) ==
              doctest::Approx(simulated_norm(steps, momentum)).epsilon(1e-12));
      }
    }
  }

  TEST_CASE("the clients' momentum enters the normalisation") {
    // |a| = 1 and 1 + 1.5 = 2.5; tau_eff = 1.75; sum p D/|a| = (1/1 + 5/2.5)/2 = 1.5.
    const auto strategy = make("fednova", {}, 0.5);
    const auto result =
        merged(*strategy, weights({10}), {stepped("a", {11}, 1, 1), stepped("b", {15}, 1, 2)});
    CHECK(error_of(result[0].tensor, {10 + 1.75 * 1.5}) < 1e-6);
  }

  TEST_CASE("with as many steps everywhere it is FedAvg") {
    const auto strategy = make("fednova");
    const auto result = merged(*strategy, weights({9}), {stepped("a", {1}, 1, 4), stepped("b", {3}, 2, 4)});
    CHECK(error_of(result[0].tensor, {7.0 / 3.0}) < 1e-6);
  }

  TEST_CASE("an update without steps is left out and named") {
    const auto strategy = make("fednova");
    strategy->begin(weights({0}));
    const auto added = strategy->add(update("ann", weights({1})));
    REQUIRE_FALSE(added);
    CHECK(added.error().code == ErrorCode::kInvalidArgument);
    CHECK(added.error().message == "update of client ann: steps must be >= 1, got 0");
    CHECK(strategy->updates() == 0);
  }
}
