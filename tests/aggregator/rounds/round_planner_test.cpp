#include "tandem/aggregator/rounds/round_planner.h"

#include <numeric>
//
#include "support/test.h"

using namespace tandem;
using namespace tandem::aggregator;

namespace {

int64_t sum(const std::vector<uint32_t>& sizes) {
  return std::accumulate(sizes.begin(), sizes.end(), int64_t{0});
}

using Clients = std::map<ClientId, RoundPlanner::ClientData>;

const std::map<ClientId, int64_t> kExamples = {{{"a"}, 50}, {{"b"}, 3}, {{"c"}, 20}};

Clients clients(const std::map<ClientId, int64_t>& examples) {
  Clients all;
  for (const auto& [client, count] : examples) all[client] = {.examples = count};
  return all;
}

/// The steps of a lane as "client/step" joined by "+", one string a step.
std::vector<std::string> spelled(const Lane& lane) {
  std::vector<std::string> steps;
  for (const TailStep& step : lane) {
    std::string text;
    for (const TailEntry& entry : step) {
      text += (text.empty() ? "" : "+") + entry.client.name + "/" + std::to_string(entry.step);
    }
    steps.push_back(text);
  }
  return steps;
}

}  // namespace

TEST_SUITE("aggregator/rounds/round_planner") {
  TEST_CASE("a round of an epoch uses every example once, in joined batches of the given size") {
    RoundPlanner planner({.seed = 4, .batch_size = 16});
    for (int round = 0; round < 3; ++round) {
      const RoundPlan plan = planner.plan(clients(kExamples), 1);
      CHECK(plan.steps() == 5);  // ceil(73 / 16)
      for (const auto& [client, count] : kExamples) CHECK(sum(plan.batch_sizes.at(client)) == count);
      for (uint32_t step = 0; step < plan.steps(); ++step) {
        int64_t joined = 0;
        for (const auto& [client, sizes] : plan.batch_sizes) joined += sizes[step];
        CHECK(joined == (step + 1 < plan.steps() ? 16 : 73 % 16));
      }
    }
  }

  TEST_CASE("rounds of steps go on with the epoch of the round before") {
    RoundPlanner planner({.seed = 4, .batch_size = 16, .local_steps = 2});
    std::map<ClientId, int64_t> used;
    for (int round = 0; round < 3; ++round) {  // 5 steps are one epoch, the sixth begins the next
      const RoundPlan plan = planner.plan(clients(kExamples), 1);
      CHECK(plan.steps() == 2);
      for (const auto& [client, sizes] : plan.batch_sizes) {
        used[client] += round < 2 ? sum(sizes) : sizes[0];
      }
    }
    CHECK(used == kExamples);
  }

  TEST_CASE("a change of participants begins a new epoch") {
    RoundPlanner planner({.seed = 4, .batch_size = 16, .local_steps = 4});
    (void)planner.plan(clients(kExamples), 1);
    const RoundPlan plan = planner.plan(clients({{{"a"}, 50}, {{"d"}, 14}}), 2);
    CHECK(plan.steps() == 4);
    CHECK(sum(plan.batch_sizes.at({"a"})) == 50);
    CHECK(sum(plan.batch_sizes.at({"d"})) == 14);
  }

  TEST_CASE("the same seed plans the same, another seed plans otherwise") {
    const auto plan = [](uint64_t seed) {
      return RoundPlanner({.seed = seed, .batch_size = 16}).plan(clients(kExamples), 1).batch_sizes;
    };
    CHECK((plan(4) == plan(4)));
    CHECK((plan(4) != plan(5)));
  }

  TEST_CASE("where batch statistics need two examples nobody brings a single one") {
    RoundPlanner planner({.seed = 4, .batch_size = 5, .minimum_batch = 2});
    const RoundPlan plan = planner.plan(clients({{{"a"}, 31}, {{"b"}, 1}, {{"c"}, 9}, {{"d"}, 2}}), 1);
    for (const auto& [client, sizes] : plan.batch_sizes) {
      for (const uint32_t size : sizes) CHECK(size != 1);
    }
    CHECK(sum(plan.batch_sizes.at({"a"})) == 31);
    CHECK(sum(plan.batch_sizes.at({"b"})) == 0);
    CHECK(RoundPlanner({.minimum_batch = 2}).plan(clients({{{"b"}, 1}}), 1).steps() == 0);
  }

  TEST_CASE("the other algorithms cut each client's own epochs into batches") {
    const RoundPlannerOptions options{.algorithm = Algorithm::kSplitFedV1, .batch_size = 8};
    RoundPlanner epoch(options);
    const RoundPlan plan = epoch.plan(clients({{{"a"}, 20}, {{"b"}, 8}}), 1);
    CHECK(plan.batch_sizes.at({"a"}) == std::vector<uint32_t>{8, 8, 4});
    CHECK(plan.batch_sizes.at({"b"}) == std::vector<uint32_t>{8});
    RoundPlannerOptions of_steps = options;
    of_steps.local_steps = 5;
    // 12 of 20 are behind it: a rest of 8, then the next epoch.
    CHECK(RoundPlanner(of_steps).plan({{{"a"}, {.examples = 20, .position = 12}}}, 1).batch_sizes.at({"a"}) ==
          std::vector<uint32_t>{8, 8, 8, 4, 8});
    RoundPlannerOptions in_pairs = options;
    in_pairs.minimum_batch = 2;
    CHECK(RoundPlanner(in_pairs).plan(clients({{{"a"}, 17}}), 1).batch_sizes.at({"a"}) ==
          std::vector<uint32_t>{8, 9});
  }

  TEST_CASE("each algorithm gives the tails their steps") {
    const auto lanes = [](Algorithm algorithm, EdgeObjective objective, uint32_t interval) {
      RoundPlanner planner(
          {.algorithm = algorithm, .objective = objective, .tail_interval = interval, .batch_size = 4});
      return planner.plan(clients({{{"a"}, 8}, {{"b"}, 4}}), 1);
    };
    const auto end_to_end = EdgeObjective::kEndToEnd;
    CHECK(lanes(Algorithm::kFederated, end_to_end, 1).lanes.empty());
    const RoundPlan v1 = lanes(Algorithm::kSplitFedV1, end_to_end, 1);
    REQUIRE(v1.lanes.size() == 2);
    CHECK(spelled(v1.lanes[0]) == std::vector<std::string>{"a/0", "a/1"});
    CHECK(spelled(v1.lanes[1]) == std::vector<std::string>{"b/0"});
    for (const Algorithm algorithm : {Algorithm::kSplitFedV2, Algorithm::kRelay}) {
      const RoundPlan plan = lanes(algorithm, end_to_end, 1);
      REQUIRE(plan.lanes.size() == 1);
      const bool a_first = plan.turns[0].name == "a";
      CHECK(spelled(plan.lanes[0]) == (a_first ? std::vector<std::string>{"a/0", "a/1", "b/0"}
                                               : std::vector<std::string>{"b/0", "a/0", "a/1"}));
    }
    // Nobody waits for the tail: a batch of each in turn. Every second one goes up.
    const RoundPlan local = lanes(Algorithm::kSplitFedV2, EdgeObjective::kLocal, 1);
    const bool a_first = local.turns[0].name == "a";
    CHECK(spelled(local.lanes[0]) == (a_first ? std::vector<std::string>{"a/0", "b/0", "a/1"}
                                              : std::vector<std::string>{"b/0", "a/0", "a/1"}));
    CHECK(spelled(lanes(Algorithm::kSplitFedV2, EdgeObjective::kLocal, 2).lanes[0]) ==
          std::vector<std::string>{"a/1"});
  }

  TEST_CASE("the order of turns changes from round to round and not from run to run") {
    std::map<ClientId, int64_t> many;
    for (int i = 0; i < 8; ++i) many[{std::string(1, static_cast<char>('a' + i))}] = 4;
    const auto turns = [&](uint64_t seed, uint32_t round) {
      return RoundPlanner({.seed = seed, .algorithm = Algorithm::kRelay}).plan(clients(many), round).turns;
    };
    CHECK((turns(1, 1) == turns(1, 1)));
    CHECK((turns(1, 1) != turns(1, 2)));
    CHECK((turns(1, 1) != turns(2, 1)));
  }
}
