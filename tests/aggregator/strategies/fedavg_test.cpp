#include "merging.h"
//
#include "support/test.h"

using namespace tandem;
using namespace tandem::aggregator;
using namespace tandem::aggregator::testing;

TEST_SUITE("aggregator/strategies/fedavg") {
  TEST_CASE("the mean is weighted by examples") {
    for (const char* specification : {"fedavg", "fedprox:mu=0.1"}) {
      CAPTURE(specification);
      const auto strategy = make(specification);
      const auto result =
          merged(*strategy, weights({0}), {update("a", weights({1}), 1), update("b", weights({3}), 2)});
      CHECK(error_of(result[0].tensor, {7.0 / 3.0}) < 1e-6);
    }
  }

  TEST_CASE("buffers are averaged like parameters and do not follow the global weights") {
    const auto strategy = make("fedavg", {"running_mean"});
    const NamedTensors global = {{"running_mean", vec({100})}};
    const auto result =
        merged(*strategy, global,
               {update("a", {{"running_mean", vec({2})}}, 3), update("b", {{"running_mean", vec({6})}}, 1)});
    CHECK(error_of(result[0].tensor, {3}) < 1e-6);
  }
}
