#include "tandem/aggregator/rounds/round.h"
//
#include "support/test.h"

using namespace tandem;
using namespace tandem::aggregator;

namespace {

const ClientId kAnn{"ann"};
const ClientId kBob{"bob"};
const ClientId kEve{"eve"};
using State = Round::StepState;

/// One lane of joined steps, as `parallel` has it.
RoundPlan joined(std::map<ClientId, std::vector<uint32_t>> sizes) {
  RoundPlan plan{.batch_sizes = std::move(sizes)};
  Lane& lane = plan.lanes.emplace_back();
  for (uint32_t step = 0; step < plan.steps(); ++step) {
    lane.emplace_back();
    for (const auto& [client, own] : plan.batch_sizes) {
      if (own[step] > 0) lane.back().push_back({client, step});
    }
  }
  return plan;
}

Round two_clients() {
  return Round(RoundId{3}, joined({{kAnn, {2, 0, 1}}, {kBob, {1, 3, 2}}}));
}

ClientActivations from(const ClientId& client, uint32_t step) {
  return {.client = client, .step = step, .activations = at::zeros({1})};
}

std::vector<ClientId> missing(const Round& round, size_t lane = 0) {
  std::vector<ClientId> clients;
  for (const TailEntry& entry : round.missing(lane)) clients.push_back(entry.client);
  return clients;
}

size_t take_and_advance(Round& round, size_t lane = 0) {
  const size_t taken = round.take(lane).size();
  round.advance(lane);
  return taken;
}

}  // namespace

TEST_SUITE("aggregator/rounds/round") {
  TEST_CASE("a step is ready when everyone who brings examples to it has sent them") {
    Round round = two_clients();
    CHECK(missing(round) == std::vector<ClientId>{kAnn, kBob});
    round.put(from(kBob, 0));
    CHECK_FALSE(round.ready(0));
    round.put(from(kAnn, 0));
    CHECK(round.ready(0));
    const auto step = round.take(0);
    REQUIRE(step.size() == 2);
    CHECK(step[0].client == kAnn);  // id order, not order of arrival
    CHECK(step[1].client == kBob);
  }

  TEST_CASE("a client planned to bring nothing to a step is not waited for") {
    Round round = two_clients();
    round.advance(0);
    CHECK(missing(round) == std::vector<ClientId>{kBob});
    CHECK(round.planned(kAnn, 1) == 0);
    CHECK(round.planned(kBob, 1) == 3);
    CHECK(round.planned(kBob, 3) == 0);
    CHECK(round.planned(kEve, 0) == 0);
  }

  TEST_CASE("a client that misses one step is waited for in the next, after two it is out") {
    Round round = two_clients();
    CHECK_FALSE(round.miss(0, kBob));
    round.put(from(kAnn, 0));
    CHECK(round.ready(0));
    CHECK(take_and_advance(round) == 1);
    CHECK(missing(round) == std::vector<ClientId>{kBob});
    CHECK(round.miss(0, kBob));
    CHECK(round.active(kBob) == nullptr);
    CHECK(round.active_count() == 1);
    CHECK(round.ready(0));
    round.advance(0);
    CHECK(missing(round) == std::vector<ClientId>{kAnn});
  }

  TEST_CASE("what a client sent ahead is dropped when it leaves") {
    Round round = two_clients();
    round.put(from(kBob, 0));
    round.put(from(kBob, 1));
    round.deactivate(kBob);
    round.put(from(kAnn, 0));
    CHECK(take_and_advance(round) == 1);
    CHECK(take_and_advance(round) == 0);
  }

  TEST_CASE("a step is open when the client's own steps before the window are done") {
    Round round(RoundId{1}, joined({{kAnn, {0, 0, 2, 1, 1}}, {kBob, {1, 1, 1, 0, 1}}}));
    CHECK((round.state_of(kAnn, 2, 1) == State::kOpen));  // ann sits the first two out and runs ahead
    CHECK((round.state_of(kAnn, 3, 1) == State::kTooEarly));
    CHECK((round.state_of(kAnn, 3, 2) == State::kOpen));
    CHECK((round.state_of(kAnn, 4, 2) == State::kTooEarly));
    CHECK((round.state_of(kAnn, 0, 1) == State::kUnknown));
    CHECK((round.state_of(kAnn, 5, 9) == State::kUnknown));
    CHECK((round.state_of(kEve, 0, 9) == State::kUnknown));
    CHECK((round.state_of(kBob, 0, 1) == State::kOpen));
    CHECK((round.state_of(kBob, 1, 1) == State::kTooEarly));
    round.advance(0);
    CHECK((round.state_of(kBob, 0, 1) == State::kPast));
    CHECK((round.state_of(kBob, 1, 1) == State::kOpen));
  }

  TEST_CASE("the steps end after the last one") {
    Round round = two_clients();
    for (int i = 0; i < 3; ++i) {
      CHECK_FALSE(round.lanes_done());
      round.advance(0);
    }
    CHECK(round.lanes_done());
    CHECK_FALSE(round.ready(0));
    CHECK(round.answered(kAnn));
  }

  TEST_CASE("a client that comes late joins the step that is open then, and its steps move back") {
    Round round(RoundId{1}, joined({{kAnn, {1, 1, 1}}, {kBob, {1, 1, 1}}}));
    round.put(from(kAnn, 0));
    CHECK(round.let_lag(kBob));
    CHECK(round.ready(0));
    CHECK(take_and_advance(round) == 1);
    CHECK((round.state_of(kBob, 0, 1) == State::kOpen));
    round.put(from(kBob, 0));
    round.put(from(kAnn, 1));
    const auto step = round.take(0);
    REQUIRE(step.size() == 2);
    CHECK(step[0].client == kAnn);
    CHECK(step[0].step == 1);
    CHECK(step[1].step == 0);
    round.advance(0);
    // It has caught up, and is waited for like anybody else.
    CHECK(missing(round) == std::vector<ClientId>{kAnn, kBob});
    round.put(from(kAnn, 2));
    round.put(from(kBob, 1));
    CHECK(take_and_advance(round) == 2);
    // Ann is done; the last step is the one that bob lags behind.
    CHECK_FALSE(round.lanes_done());
    CHECK(missing(round) == std::vector<ClientId>{kBob});
    CHECK(round.missing(0)[0].step == 2);
    CHECK(round.let_lag(kBob));
    CHECK(round.only_laggards(0));
    CHECK(missing(round) == std::vector<ClientId>{kBob});  // there is nobody else to go on
    CHECK_FALSE(round.let_lag(kBob));
    CHECK_FALSE(round.miss(0, kBob));
    round.advance(0);
    CHECK(round.lanes_done());
  }

  TEST_CASE("nobody waits for one that lags until only its own steps are left") {
    Round round(RoundId{1}, joined({{kAnn, {1, 1}}, {kBob, {1, 1}}}));
    CHECK(round.let_lag(kBob));
    for (uint32_t step = 0; step < 2; ++step) {
      round.put(from(kAnn, step));
      CHECK(round.ready(0));
      CHECK(take_and_advance(round) == 1);
    }
    CHECK(missing(round) == std::vector<ClientId>{kBob});
    CHECK_FALSE(round.miss(0, kBob));
    round.advance(0);
    CHECK(round.missing(0)[0].step == 1);
    CHECK(round.miss(0, kBob));
    round.advance(0);
    CHECK(round.lanes_done());
  }

  TEST_CASE("a step that a late client sat out takes up its lag") {
    Round round(RoundId{1}, joined({{kAnn, {1, 1, 1}}, {kBob, {1, 0, 1}}}));
    CHECK(round.let_lag(kBob));
    round.advance(0);
    round.put(from(kBob, 0));
    CHECK(missing(round) == std::vector<ClientId>{kAnn});
    round.advance(0);
    CHECK(round.missing(0).size() == 2);
    CHECK(round.missing(0)[1].step == 2);
    round.advance(0);
    CHECK(round.lanes_done());
  }

  TEST_CASE("lanes go on by themselves") {
    RoundPlan plan{.batch_sizes = {{kAnn, {1, 1}}, {kBob, {1}}}};
    plan.lanes = {{{{kAnn, 0}}, {{kAnn, 1}}}, {{{kBob, 0}}}};
    Round round(RoundId{1}, std::move(plan));
    CHECK(round.lane_of(kAnn) == 0);
    CHECK(round.lane_of(kBob) == 1);
    round.put(from(kBob, 0));
    CHECK_FALSE(round.ready(0));
    CHECK(round.ready(1));
    round.advance(1);
    CHECK(round.lane_done(1));
    CHECK(round.answered(kBob));
    CHECK_FALSE(round.answered(kAnn));
    CHECK_FALSE(round.lanes_done());
  }
}
