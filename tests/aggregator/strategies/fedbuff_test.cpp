#include "merging.h"
//
#include "support/test.h"

using namespace tandem;
using namespace tandem::aggregator;
using namespace tandem::aggregator::testing;

namespace {

ClientUpdate stale(const std::string& client, double value, double base, uint32_t staleness) {
  ClientUpdate made = update(client, weights({value}), 100);
  made.base = weights({base});
  made.staleness = staleness;
  return made;
}

}  // namespace

TEST_SUITE("aggregator/strategies/fedbuff") {
  TEST_CASE("changes count from their own base and by staleness, not by examples") {
    // a: s = 1/2, D = 1; b started from the global weights: s = 1, D = 2.
    const std::vector<ClientUpdate> updates = {stale("a", 9, 8, 3), update("b", weights({12}))};
    CHECK(error_of(merged(*make("fedbuff"), weights({10}), updates)[0].tensor, {10 + 2.5 / 2}) < 1e-6);
    CHECK(error_of(merged(*make("fedbuff?eta=2"), weights({10}), updates)[0].tensor, {12.5}) < 1e-6);
  }

  TEST_CASE("one client may be in the buffer twice") {
    const auto result = merged(*make("fedbuff"), weights({0}), {stale("a", 1, 0, 0), stale("a", 4, 1, 0)});
    CHECK(error_of(result[0].tensor, {2}) < 1e-6);
  }

  TEST_CASE("a base of another model leaves the update out") {
    const auto strategy = make("fedbuff");
    strategy->begin(weights({0}));
    ClientUpdate wrong = update("eve", weights({1}));
    wrong.base = weights({1, 2});
    const auto added = strategy->add(wrong);
    REQUIRE_FALSE(added);
    CHECK(added.error().message ==
          "update of client eve: base: tensor 1 of 1: expected w (Float [1]), got w (Float [2])");
    CHECK(strategy->updates() == 0);
  }
}
