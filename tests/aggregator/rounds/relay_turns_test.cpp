#include "tandem/aggregator/rounds/relay_turns.h"
//
#include "support/test.h"

using namespace tandem;
using namespace tandem::aggregator;

namespace {

const ClientId kAnn{"ann"};
const ClientId kBob{"bob"};
const ClientId kEve{"eve"};

/// Bob, then eve, then ann.
Round three_turns() {
  RoundPlan plan{.batch_sizes = {{kAnn, {1}}, {kBob, {1}}, {kEve, {1}}}};
  plan.lanes = {{{{kBob, 0}}, {{kEve, 0}}, {{kAnn, 0}}}};
  plan.turns = {kBob, kEve, kAnn};
  return Round(RoundId{1}, std::move(plan));
}

}  // namespace

TEST_SUITE("aggregator/rounds/relay_turns") {
  TEST_CASE("the front goes round in the planned order, each holder's asked for before the next has it") {
    const Round round = three_turns();
    RelayTurns turns(round);
    turns.begin();
    for (const ClientId& client : round.turns()) {
      REQUIRE_FALSE(turns.over());
      CHECK(turns.holder() == client);
      CHECK_FALSE(turns.awaits_front());
      turns.ask_for_front();
      CHECK(turns.awaits_front_of(client));
      turns.pass_on();
      CHECK_FALSE(turns.is_held_by(client));
      CHECK_FALSE(turns.awaits_front());
    }
    CHECK(turns.over());
    CHECK(turns.later().empty());
  }

  TEST_CASE("only the holder's front is awaited") {
    const Round round = three_turns();
    RelayTurns turns(round);
    turns.begin();
    CHECK_FALSE(turns.awaits_front_of(kBob));
    turns.ask_for_front();
    CHECK(turns.awaits_front_of(kBob));
    CHECK_FALSE(turns.awaits_front_of(kEve));
    CHECK(turns.later() == std::vector<ClientId>{kEve, kAnn});
  }

  TEST_CASE("a client that is out has no turn") {
    Round round = three_turns();
    round.deactivate(kBob);
    RelayTurns turns(round);
    turns.begin();
    CHECK(turns.holder() == kEve);
    round.deactivate(kAnn);
    turns.ask_for_front();
    turns.pass_on();
    CHECK(turns.over());
    CHECK_FALSE(turns.awaits_front());
    CHECK_FALSE(turns.is_held_by(kAnn));
  }

  TEST_CASE("a holder that drops out keeps the turn until it is passed on") {
    Round round = three_turns();
    RelayTurns turns(round);
    turns.begin();
    round.deactivate(kBob);
    CHECK(turns.is_held_by(kBob));
    turns.pass_on();
    CHECK(turns.holder() == kEve);
  }

  TEST_CASE("turns go on from the number that was kept") {
    const Round round = three_turns();
    RelayTurns before(round);
    before.begin();
    before.pass_on();
    const RelayTurns after(round, before.turn());
    CHECK(after.holder() == kEve);
    CHECK(after.later() == std::vector<ClientId>{kAnn});
  }
}
