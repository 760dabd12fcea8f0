#include "tandem/aggregator/front_merge.h"

#include <string>
//
#include "support/test.h"

using namespace tandem;
using namespace tandem::aggregator;

namespace {

NamedTensors front(double value) {
  return {{"0.weight", at::full({2}, value)}};
}

std::map<ClientId, uint64_t> contributors(int count) {
  std::map<ClientId, uint64_t> weights;
  for (int i = 0; i < count; ++i) weights[{"c" + std::to_string(100 + i)}] = static_cast<uint64_t>(i + 1);
  return weights;
}

}  // namespace

TEST_SUITE("aggregator/front_merge") {
  TEST_CASE("the mean is weighted by examples and does not depend on the order of arrival") {
    FrontMerge merge(front(0), {{{"ann"}, 1}, {{"bob"}, 2}});
    CHECK(merge.next_to_ask() == std::vector<ClientId>{{"ann"}, {"bob"}});
    CHECK(merge.receive({"bob"}, front(3), 1000).empty());
    CHECK_FALSE(merge.complete());
    CHECK(merge.receive({"ann"}, front(1), 1000).empty());
    REQUIRE(merge.complete());
    CHECK(merge.mean()->at(0).tensor[0].item<float>() == doctest::Approx(7.0 / 3.0).epsilon(1e-7));
  }

  TEST_CASE("at most eight fronts are outstanding, counted from the next one to add") {
    FrontMerge merge(front(0), contributors(12));
    CHECK(merge.next_to_ask().size() == 8);
    CHECK(merge.next_to_ask().empty());
    // Later ones that arrive early hold memory: they make no room.
    CHECK(merge.receive({"c103"}, front(1), 1000).empty());
    CHECK(merge.next_to_ask().empty());
    CHECK(merge.receive({"c100"}, front(1), 1000).empty());
    CHECK(merge.next_to_ask() == std::vector<ClientId>{{"c108"}});
  }

  TEST_CASE("a client that gives no usable front is left out and named") {
    FrontMerge merge(front(0), {{{"ann"}, 1}, {{"bob"}, 2}, {{"eve"}, 5}});
    (void)merge.next_to_ask();
    CHECK(merge.receive({"ann"}, front(2), 1000).empty());
    CHECK(merge.give_up({"bob"}).empty());
    const auto errors = merge.receive({"eve"}, {{"0.weight", at::full({2}, std::nan(""))}}, 1000);
    REQUIRE(errors.size() == 1);
    CHECK(errors[0].message.find("eve") != std::string::npos);
    REQUIRE(merge.complete());
    CHECK(merge.merged_clients() == 1);
    CHECK(merge.mean()->at(0).tensor[0].item<float>() == 2.0f);
  }

  TEST_CASE("fronts that nobody asked for, and second ones, change nothing") {
    FrontMerge merge(front(0), {{{"ann"}, 1}});
    CHECK(merge.receive({"ann"}, front(9), 1000).empty());  // not asked yet
    CHECK_FALSE(merge.complete());
    (void)merge.next_to_ask();
    CHECK(merge.receive({"mallory"}, front(9), 1000).empty());
    CHECK(merge.receive({"ann"}, front(1), 1000).empty());
    CHECK(merge.receive({"ann"}, front(9), 1000).empty());
    CHECK(merge.mean()->at(0).tensor[0].item<float>() == 1.0f);
  }

  TEST_CASE("a front weighs as the fewer of the examples claimed and those sent, and nothing without any") {
    FrontMerge merge(front(0), {{{"ann"}, 6}, {{"bob"}, 2}, {{"eve"}, 5}});
    (void)merge.next_to_ask();
    CHECK(merge.receive({"ann"}, front(1), 2).empty());
    CHECK(merge.receive({"bob"}, front(3), 1'000'000).empty());
    CHECK(merge.receive({"eve"}, front(100), 0).empty());
    REQUIRE(merge.complete());
    CHECK(merge.merged_clients() == 2);
    CHECK(merge.mean()->at(0).tensor[0].item<float>() == 2.0f);
  }

  TEST_CASE("without one usable front there is no mean") {
    FrontMerge merge(front(0), {{{"ann"}, 1}});
    (void)merge.next_to_ask();
    CHECK(merge.give_up({"ann"}).empty());
    CHECK(merge.complete());
    CHECK_FALSE(merge.mean().has_value());
  }
}
