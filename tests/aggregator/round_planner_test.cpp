#include "tandem/aggregator/round_planner.h"

#include <numeric>
//
#include "support/test.h"

using namespace tandem;
using namespace tandem::aggregator;

namespace {

int64_t sum(const std::vector<uint32_t>& sizes) {
  return std::accumulate(sizes.begin(), sizes.end(), int64_t{0});
}

const std::map<ClientId, int64_t> kExamples = {{{"a"}, 50}, {{"b"}, 3}, {{"c"}, 20}};

}  // namespace

TEST_SUITE("aggregator/round_planner") {
  TEST_CASE("a round of an epoch uses every example once, in joined batches of the given size") {
    RoundPlanner planner({.seed = 4, .batch_size = 16});
    for (int round = 0; round < 3; ++round) {
      const RoundPlan plan = planner.plan(kExamples);
      CHECK(plan.steps == 5);  // ceil(73 / 16)
      for (const auto& [client, count] : kExamples) CHECK(sum(plan.batch_sizes.at(client)) == count);
      for (uint32_t step = 0; step < plan.steps; ++step) {
        int64_t joined = 0;
        for (const auto& [client, sizes] : plan.batch_sizes) joined += sizes[step];
        CHECK(joined == (step + 1 < plan.steps ? 16 : 73 % 16));
      }
    }
  }

  TEST_CASE("rounds of steps go on with the epoch of the round before") {
    RoundPlanner planner({.seed = 4, .batch_size = 16, .local_steps = 2});
    std::map<ClientId, int64_t> used;
    for (int round = 0; round < 3; ++round) {  // 5 steps are one epoch, the sixth begins the next
      const RoundPlan plan = planner.plan(kExamples);
      CHECK(plan.steps == 2);
      for (const auto& [client, sizes] : plan.batch_sizes) {
        used[client] += round < 2 ? sum(sizes) : sizes[0];
      }
    }
    CHECK(used == kExamples);
  }

  TEST_CASE("a change of participants begins a new epoch") {
    RoundPlanner planner({.seed = 4, .batch_size = 16, .local_steps = 4});
    (void)planner.plan(kExamples);
    const RoundPlan plan = planner.plan({{{"a"}, 50}, {{"d"}, 14}});
    CHECK(plan.steps == 4);
    CHECK(sum(plan.batch_sizes.at({"a"})) == 50);
    CHECK(sum(plan.batch_sizes.at({"d"})) == 14);
  }

  TEST_CASE("the same seed plans the same, another seed plans otherwise") {
    const auto plan = [](uint64_t seed) {
      return RoundPlanner({.seed = seed, .batch_size = 16}).plan(kExamples).batch_sizes;
    };
    CHECK((plan(4) == plan(4)));
    CHECK((plan(4) != plan(5)));
  }

  TEST_CASE("where batch statistics need two examples nobody brings a single one") {
    RoundPlanner planner({.seed = 4, .batch_size = 5, .minimum_batch = 2});
    const RoundPlan plan = planner.plan({{{"a"}, 31}, {{"b"}, 1}, {{"c"}, 9}, {{"d"}, 2}});
    for (const auto& [client, sizes] : plan.batch_sizes) {
      for (const uint32_t size : sizes) CHECK(size != 1);
    }
    CHECK(sum(plan.batch_sizes.at({"a"})) == 31);
    CHECK(sum(plan.batch_sizes.at({"b"})) == 0);
    CHECK(RoundPlanner({.minimum_batch = 2}).plan({{{"b"}, 1}}).steps == 0);
  }
}
