#include "merging.h"
//
#include "support/test.h"

using namespace tandem;
using namespace tandem::aggregator;
using namespace tandem::aggregator::testing;

namespace {

ClientUpdate controlled(const std::string& client, const std::vector<double>& values, uint64_t examples,
                        const std::vector<double>& change) {
  ClientUpdate made = update(client, weights(values), examples);
  made.control_change = weights(change);
  return made;
}

}  // namespace

TEST_SUITE("aggregator/strategies/scaffold") {
  TEST_CASE("weights move by the unweighted mean change, the control by 1/N of the sum") {
    const auto strategy = make("scaffold:eta=0.5");
    strategy->set_population(10);
    CHECK(strategy->control().empty());
    // b's control did not change.
    const std::vector<ClientUpdate> updates = {controlled("a", {1, 0}, 1, {.4, -1}),
                                               update("b", weights({3, 2}), 9)};
    auto result = merged(*strategy, weights({0, 0}), updates);
    CHECK(error_of(result[0].tensor, {1, .5}) < 1e-6);  // mean D = (2, 1)
    REQUIRE(strategy->control().size() == 1);
    CHECK(strategy->control()[0].name == "w");
    CHECK((strategy->control()[0].tensor.scalar_type() == at::kFloat));
    CHECK(error_of(strategy->control()[0].tensor, {.04, -.1}) < 1e-7);
    result = merged(*strategy, weights({0, 0}), updates);
    CHECK(error_of(strategy->control()[0].tensor, {.08, -.2}) < 1e-7);
  }

  TEST_CASE("a population that was not told, or is too small, is the participants") {
    for (const int population : {0, 1, 2}) {
      const auto strategy = make("scaffold");
      if (population > 0) strategy->set_population(population);
      (void)merged(*strategy, weights({0}), {controlled("a", {1}, 1, {.2}), controlled("b", {1}, 1, {.6})});
      CHECK(error_of(strategy->control()[0].tensor, {.4}) < 1e-7);
    }
    CHECK_THROWS_WITH(make("scaffold")->set_population(0),
                      "Strategy.set_population: clients must be >= 1, got 0");
  }

  TEST_CASE("nobody's control changed: it stays zero") {
    const auto strategy = make("scaffold");
    (void)merged(*strategy, weights({5}), scalars({1, 2}));
    CHECK(error_of(strategy->control()[0].tensor, {0}) == 0);
  }

  TEST_CASE("the control has parameters only, float32 whatever theirs") {
    const auto strategy = make("scaffold", {"running_mean"});
    const NamedTensors global = {
        {"w", vec({1}, at::kDouble)}, {"running_mean", vec({1})}, {"count", torch::tensor({3})}};
    (void)merged(*strategy, global, {update("a", global)});
    REQUIRE(strategy->control().size() == 1);
    CHECK(strategy->control()[0].name == "w");
    CHECK((strategy->control()[0].tensor.scalar_type() == at::kFloat));
  }

  TEST_CASE("a control change that does not fit leaves the update out") {
    const auto strategy = make("scaffold");
    strategy->begin(weights({0, 0}));
    const auto wrong = strategy->add(controlled("eve", {1, 1}, 1, {1}));
    REQUIRE_FALSE(wrong);
    CHECK(wrong.error().code == ErrorCode::kShapeMismatch);
    CHECK(wrong.error().message ==
          "update of client eve: control change: tensor 1 of 1: expected w (Float [2]), got w (Float [1])");
    const auto infinite = strategy->add(controlled("eve", {1, 1}, 1, {1, INFINITY}));
    REQUIRE_FALSE(infinite);
    CHECK(infinite.error().code == ErrorCode::kNonFinite);
    CHECK(infinite.error().message == "update of client eve: control change: tensor w holds NaN or infinity");
    CHECK(strategy->updates() == 0);
    CHECK_FALSE(strategy->merge());
    CHECK(strategy->control().empty());
  }

  TEST_CASE("the control handed out is a copy") {
    const auto strategy = make("scaffold");
    (void)merged(*strategy, weights({0}), {controlled("a", {1}, 1, {.5})});
    strategy->control()[0].tensor.fill_(9);
    CHECK(error_of(strategy->control()[0].tensor, {.5}) < 1e-7);
  }
}
