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
    CHECK(error_of(merged(*make("fedbuff:eta=2"), weights({10}), updates)[0].tensor, {12.5}) < 1e-6);
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

  TEST_CASE("a merge that is interrupted goes on with what was added, to the bit") {
    const auto model = [](double a, double mean, int64_t count) {
      return NamedTensors{{"w", vec({a, a / 3})}, {"mean", vec({mean})}, {"count", at::tensor({count})}};
    };
    std::vector<ClientUpdate> updates;
    for (int i = 0; i < 4; ++i) {
      updates.push_back(
          update("c" + std::to_string(i), model(1.1 + i, 0.7 * i, i), 3 + static_cast<uint64_t>(i)));
      updates.back().base = model(0.3 * i, 0, 0);
      updates.back().staleness = static_cast<uint32_t>(i);
    }
    const NamedTensors global = model(0.1, 0.2, 1);
    const NamedTensors whole = merged(*make("fedbuff", {"mean"}), global, updates);
    for (size_t before = 0; before <= updates.size(); ++before) {
      const auto first = make("fedbuff", {"mean"});
      first->begin(global);
      for (size_t i = 0; i < before; ++i) first->add(updates[i]).value();
      const NamedTensors added = first->added();
      CHECK(added.empty() == (before == 0));
      const auto second = make("fedbuff", {"mean"});
      second->begin(global);
      REQUIRE(second->load_added(added).has_value());
      CHECK(second->updates() == static_cast<int>(before));
      for (size_t i = before; i < updates.size(); ++i) second->add(updates[i]).value();
      const NamedTensors result = second->merge().value();
      for (size_t i = 0; i < whole.size(); ++i) CHECK(at::equal(result[i].tensor, whole[i].tensor));
    }
  }

  TEST_CASE("what was added to another model is refused, and by a strategy that is never interrupted") {
    const auto strategy = make("fedbuff");
    strategy->begin(weights({0}));
    strategy->add(update("a", weights({1}))).value();
    NamedTensors added = strategy->added();
    const auto other = make("fedbuff");
    other->begin(weights({0, 0}));
    CHECK(other->load_added(added).error().message ==
          "updates added to fedbuff: tensor 1 of 1: expected w (Double [2]), got w (Double [1])");
    added.pop_back();
    other->begin(weights({0}));
    CHECK(other->load_added(added).error().message ==
          "updates added to fedbuff: \"counts\" of the updates added is missing");
    CHECK(other->updates() == 0);
    CHECK(make("fedavg")->load_added(added).error().message ==
          "fedavg does not go on with a merge under way");
  }
}
