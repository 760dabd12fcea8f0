#include "tandem/aggregator/rounds/update_merge.h"

#include <string>
//
#include "support/test.h"

using namespace tandem;
using namespace tandem::aggregator;

namespace {

/// Keeps what it is given, in order; refuses a client named "eve".
struct Taken {
  std::vector<ClientUpdate> updates;
  UpdateMerge::Add add() {
    return [this](ClientUpdate update) {
      if (update.client.name == "eve") return false;
      updates.push_back(std::move(update));
      return true;
    };
  }
};

ClientUpdate update(const std::string& client, double value, uint64_t examples = 1000) {
  return {.client = {client}, .weights = {{"0.weight", at::full({2}, value)}}, .examples = examples};
}

std::map<ClientId, uint64_t> contributors(int count) {
  std::map<ClientId, uint64_t> weights;
  for (int i = 0; i < count; ++i) {
    const std::string number = std::to_string(100 + i);
    weights[{"c" + number}] = static_cast<uint64_t>(i + 1);
  }
  return weights;
}

}  // namespace

TEST_SUITE("aggregator/rounds/update_merge") {
  TEST_CASE("updates are added in client order, whatever the order of arrival") {
    Taken taken;
    UpdateMerge merge({{{"ann"}, 1}, {{"bob"}, 2}}, taken.add());
    CHECK(merge.next_to_ask() == std::vector<ClientId>{{"ann"}, {"bob"}});
    merge.receive(update("bob", 3));
    CHECK_FALSE(merge.complete());
    CHECK(taken.updates.empty());
    merge.receive(update("ann", 1));
    REQUIRE(merge.complete());
    REQUIRE(taken.updates.size() == 2);
    CHECK(taken.updates[0].client.name == "ann");
    CHECK(taken.updates[1].weights[0].tensor[0].item<float>() == 3.0f);
    CHECK(merge.merged() == std::vector<ClientId>{{"ann"}, {"bob"}});
  }

  TEST_CASE("at most eight updates are outstanding, counted from the next one to add") {
    Taken taken;
    UpdateMerge merge(contributors(12), taken.add());
    CHECK(merge.next_to_ask().size() == 8);
    CHECK(merge.next_to_ask().empty());
    // Later ones that arrive early hold memory: they make no room.
    merge.receive(update("c103", 1));
    CHECK(merge.next_to_ask().empty());
    merge.receive(update("c100", 1));
    CHECK(merge.next_to_ask() == std::vector<ClientId>{{"c108"}});
  }

  TEST_CASE("a client that gives no usable update is left out") {
    Taken taken;
    UpdateMerge merge({{{"ann"}, 1}, {{"bob"}, 2}, {{"eve"}, 5}}, taken.add());
    (void)merge.next_to_ask();
    merge.receive(update("ann", 2));
    merge.give_up({"bob"});
    merge.receive(update("eve", 9));
    REQUIRE(merge.complete());
    CHECK(merge.merged() == std::vector<ClientId>{{"ann"}});
  }

  TEST_CASE("updates that nobody asked for, and second ones, change nothing") {
    Taken taken;
    UpdateMerge merge({{{"ann"}, 1}}, taken.add());
    merge.receive(update("ann", 9));  // not asked yet
    CHECK_FALSE(merge.complete());
    (void)merge.next_to_ask();
    merge.receive(update("mallory", 9));
    merge.receive(update("ann", 1));
    merge.receive(update("ann", 9));
    REQUIRE(taken.updates.size() == 1);
    CHECK(taken.updates[0].weights[0].tensor[0].item<float>() == 1.0f);
  }

  TEST_CASE("an update weighs as the fewer of the examples claimed and those sent, and nothing without any") {
    Taken taken;
    UpdateMerge merge({{{"ann"}, 6}, {{"bob"}, 2}, {{"kim"}, 5}}, taken.add());
    (void)merge.next_to_ask();
    merge.receive(update("ann", 1, 2));
    merge.receive(update("bob", 3, 1'000'000));
    merge.receive(update("kim", 100, 0));
    REQUIRE(merge.complete());
    REQUIRE(taken.updates.size() == 2);
    CHECK(taken.updates[0].examples == 2);
    CHECK(taken.updates[1].examples == 2);
  }
}
