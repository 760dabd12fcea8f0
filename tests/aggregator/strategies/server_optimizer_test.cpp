#include "merging.h"
//
#include "support/test.h"

using namespace tandem;
using namespace tandem::aggregator;
using namespace tandem::aggregator::testing;

namespace {

/// The clients of the reference vectors, who return the same in every round.
std::vector<ClientUpdate> reference_updates() {
  return {update("a", weights({1, 1, -1}), 1), update("b", weights({3, .5, -1.5}), 2)};
}

NamedTensors after_rounds(const std::string& specification, int rounds) {
  const auto strategy = make(specification);
  NamedTensors global = weights({0, 1, -2});
  for (int i = 0; i < rounds; ++i) global = merged(*strategy, global, reference_updates());
  return global;
}

}  // namespace

TEST_SUITE("aggregator/strategies/server_optimizer") {
  TEST_CASE("FedAdam gives the reference vectors") {
    const auto first = after_rounds("fedadam:eta=0.1", 1);
    CHECK(error_of(first[0].tensor, {.099572356, .9029545865, -1.9014886415}) < 1e-6);
    const auto third = after_rounds("fedadam:eta=0.1", 3);
    CHECK(error_of(third[0].tensor, {.3898391945, .6369467101, -1.6178489248}) < 1e-6);
  }

  TEST_CASE("FedAdagrad gives the reference vectors") {
    const auto third = after_rounds("fedadagrad:eta=0.1,beta1=0.9", 3);
    CHECK(error_of(third[0].tensor, {.0390617398, .9610645553, -1.960988882}) < 1e-6);
    const auto strategy = make("fedadagrad:eta=0.1,tau=0.5,beta1=0,v0=0");
    const auto result = merged(*strategy, weights({.1}), scalars({.2, 1.0}));
    CHECK(error_of(result[0].tensor, {.15}) < 1e-6);
  }

  TEST_CASE("FedAdam moves by the mean change over the root of its second moment, without bias correction") {
    const auto strategy = make("fedadam:eta=2,beta1=0.5,beta2=0.75,tau=0.5,v0=1");
    // D = 4: m = 2, v = 3/4 + 16/4 = 4.75.
    const double first = 2 * 2 / (std::sqrt(4.75) + .5);
    auto global = merged(*strategy, weights({0}), scalars({3, 5}));
    CHECK(error_of(global[0].tensor, {first}) < 1e-6);
    CHECK(error_of(strategy->state()[0].tensor, {2}) < 1e-12);
    CHECK(error_of(strategy->state()[1].tensor, {4.75}) < 1e-12);
    // Both come back where they were: D = 0, m = 1, v = 3/4 of what it was.
    const auto stay = global[0].tensor.item<double>();
    global = merged(*strategy, global, scalars({stay, stay}));
    CHECK(error_of(global[0].tensor, {first + 2 * 1 / (std::sqrt(4.75 * .75) + .5)}) < 1e-6);
    CHECK(error_of(strategy->state()[1].tensor, {4.75 * .75}) < 1e-12);
  }

  TEST_CASE("FedAdagrad adds up every squared change") {
    const auto strategy = make("fedadagrad:eta=3,beta1=0.5,tau=1,v0=0");
    // D = 2: m = 1, v = 4, w = 3 * 1 / (2 + 1); then D = 2.5 - 1: m = 1.25, v = 6.25, w = 1 + 3 * 1.25 / 3.5.
    auto global = merged(*strategy, weights({0}), scalars({2}));
    CHECK(error_of(global[0].tensor, {1}) < 1e-6);
    global = merged(*strategy, global, scalars({2.5}));
    CHECK(error_of(global[0].tensor, {1 + 3 * 1.25 / 3.5}) < 1e-6);
  }

  TEST_CASE("FedYogi raises v where D^2 is above it and lowers it where below") {
    const auto strategy = make("fedyogi:eta=1,beta1=0,beta2=0.5,tau=0.1,v0=1");
    const double second = 2 / (std::sqrt(3.0) + .1);  // v = 1 + 0.5 * 4
    auto global = merged(*strategy, weights({0}), scalars({2}));
    CHECK(error_of(global[0].tensor, {second}) < 1e-6);
    CHECK(error_of(strategy->state()[1].tensor, {3}) < 1e-12);
    const double change = 2.5 - global[0].tensor.item<double>();
    const double v = 3 - .5 * change * change;
    REQUIRE(change * change < 3);
    const double expected = global[0].tensor.item<double>() + change / (std::sqrt(v) + .1);
    global = merged(*strategy, global, scalars({2.5}));
    CHECK(error_of(global[0].tensor, {expected}) < 1e-6);
    CHECK(error_of(strategy->state()[1].tensor, {v}) < 1e-12);
  }

  TEST_CASE("FedAvgM keeps beta of the last step") {
    const auto strategy = make("fedavgm:beta=0.5,eta=2");
    auto global = merged(*strategy, weights({0}), scalars({1}));
    CHECK(error_of(global[0].tensor, {2}) < 1e-6);  // m = -1
    global = merged(*strategy, global, scalars({3}));
    CHECK(error_of(global[0].tensor, {5}) < 1e-6);  // m = -0.5 - 1
    REQUIRE(strategy->state().size() == 1);
    CHECK(strategy->state()[0].name == "m.w");
    CHECK(error_of(strategy->state()[0].tensor, {-1.5}) < 1e-12);
  }

  TEST_CASE("FedAvgM without momentum is FedAvg") {
    const auto momentum = make("fedavgm:beta=0,eta=1");
    const auto plain = make("fedavg");
    const NamedTensors global = weights({.3, -7, 1e-4});
    const std::vector<ClientUpdate> updates = {update("a", weights({.1, 2, 3e-4}), 5),
                                               update("b", weights({.7, -3, 8e-4}), 11)};
    const auto expected = merged(*plain, global, updates);
    CHECK((merged(*momentum, global, updates)[0].tensor - expected[0].tensor).abs().max().item<double>() <
          1e-7);
  }

  TEST_CASE("v starts at tau^2") {
    const auto strategy = make("fedadagrad:tau=0.5,beta1=0,eta=1");
    (void)merged(*strategy, weights({0}), scalars({2}));
    CHECK(error_of(strategy->state()[1].tensor, {.25 + 4}) < 1e-12);
  }

  TEST_CASE("buffers never meet the optimiser") {
    for (const char* specification : {"fedavgm", "fedadam", "fedyogi", "fedadagrad"}) {
      CAPTURE(specification);
      const auto strategy = make(specification, {"running_var"});
      NamedTensors global = {{"w", vec({0})}, {"running_var", vec({50})}};
      for (int round = 0; round < 2; ++round) {
        global = merged(*strategy, global,
                        {update("a", {{"w", vec({1})}, {"running_var", vec({2})}}, 1),
                         update("b", {{"w", vec({1})}, {"running_var", vec({5})}}, 2)});
        CHECK(error_of(global[1].tensor, {4}) < 1e-6);
      }
      for (const NamedTensor& entry : strategy->state()) {
        CHECK(entry.name.find("running_var") == std::string::npos);
      }
    }
  }

  TEST_CASE("a negative second moment is refused") {
    const auto strategy = make("fedadam");
    const auto loaded =
        strategy->load_state({{"m.w", vec({1}, at::kDouble)}, {"v.w", vec({-1}, at::kDouble)}});
    REQUIRE_FALSE(loaded);
    CHECK(loaded.error().message == "state of fedadam: v.w holds a negative second moment");
  }
}
