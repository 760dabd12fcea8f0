#include "tandem/aggregator/round.h"
//
#include "support/test.h"

using namespace tandem;
using namespace tandem::aggregator;

namespace {

const ClientId kAnn{"ann"};
const ClientId kBob{"bob"};

Round two_clients() {
  return Round(RoundId{3}, {.steps = 3, .batch_sizes = {{kAnn, {2, 0, 1}}, {kBob, {1, 3, 2}}}});
}

ClientActivations from(const ClientId& client) {
  return {.client = client, .activations = at::zeros({1})};
}

}  // namespace

TEST_SUITE("aggregator/round") {
  TEST_CASE("a step is ready when everyone who brings examples to it has sent them") {
    Round round = two_clients();
    CHECK(round.missing() == std::vector<ClientId>{kAnn, kBob});
    round.put(0, from(kBob));
    CHECK_FALSE(round.ready());
    round.put(0, from(kAnn));
    CHECK(round.ready());
    const auto step = round.take_and_advance();
    REQUIRE(step.size() == 2);
    CHECK(step[0].client == kAnn);  // id order, not order of arrival
    CHECK(step[1].client == kBob);
  }

  TEST_CASE("a client planned to bring nothing to a step is not waited for") {
    Round round = two_clients();
    (void)round.take_and_advance();
    CHECK(round.missing() == std::vector<ClientId>{kBob});
    CHECK(round.planned(kAnn, 1) == 0);
    CHECK(round.planned(kBob, 1) == 3);
    CHECK(round.planned(kBob, 3) == 0);
    CHECK(round.planned({"eve"}, 0) == 0);
  }

  TEST_CASE("a client that misses one step is waited for in the next, after two it is out") {
    Round round = two_clients();
    CHECK_FALSE(round.miss(kBob));
    round.put(0, from(kAnn));
    CHECK(round.ready());
    (void)round.take_and_advance();
    CHECK(round.missing() == std::vector<ClientId>{kBob});
    CHECK(round.miss(kBob));
    CHECK(round.active(kBob) == nullptr);
    CHECK(round.active_count() == 1);
    CHECK(round.ready());
    (void)round.take_and_advance();
    CHECK(round.missing() == std::vector<ClientId>{kAnn});
  }

  TEST_CASE("what a client sent ahead is dropped when it leaves") {
    Round round = two_clients();
    round.put(0, from(kBob));
    round.put(1, from(kBob));
    round.deactivate(kBob);
    round.put(0, from(kAnn));
    CHECK(round.take_and_advance().size() == 1);
    CHECK(round.take_and_advance().empty());
  }

  TEST_CASE("a step is open when the client's own steps before the window are done") {
    Round round(RoundId{1}, {.steps = 5, .batch_sizes = {{kAnn, {0, 0, 2, 1, 1}}, {kBob, {1, 1, 1, 0, 1}}}});
    CHECK(round.is_open(kAnn, 2, 1));  // ann sits the first two out and runs ahead
    CHECK_FALSE(round.is_open(kAnn, 3, 1));
    CHECK(round.is_open(kAnn, 3, 2));
    CHECK_FALSE(round.is_open(kAnn, 4, 2));
    CHECK_FALSE(round.is_open(kAnn, 0, 1));
    CHECK_FALSE(round.is_open(kAnn, 5, 9));
    CHECK(round.is_open(kBob, 0, 1));
    CHECK_FALSE(round.is_open(kBob, 1, 1));
    (void)round.take_and_advance();
    CHECK_FALSE(round.is_open(kBob, 0, 1));
    CHECK(round.is_open(kBob, 1, 1));
  }

  TEST_CASE("the steps end after the last one") {
    Round round = two_clients();
    for (int i = 0; i < 3; ++i) {
      CHECK_FALSE(round.steps_done());
      (void)round.take_and_advance();
    }
    CHECK(round.steps_done());
    CHECK_FALSE(round.ready());
  }
}
