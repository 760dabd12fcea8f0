#include "tandem/aggregator/rounds/round_deadlines.h"

#include <optional>
#include <utility>
#include <vector>

#include "support/test.h"

using namespace tandem;
using namespace tandem::aggregator;
using std::chrono::seconds;

namespace {

const ClientId kAnn{"ann"};
const ClientId kBob{"bob"};

SessionOptions options_with(StragglerRule stragglers = StragglerRule::kDrop) {
  SessionOptions options;
  options.step_deadline = seconds(10);
  options.update_deadline = seconds(60);
  options.stragglers = stragglers;
  return options;
}

/// A lane for each client, two steps each, as splitfed-v1 has it.
RoundPlan two_lanes() {
  RoundPlan plan{.batch_sizes = {{kAnn, {1, 1}}, {kBob, {1, 1}}}};
  plan.lanes = {{{{kAnn, 0}}, {{kAnn, 1}}}, {{{kBob, 0}}, {{kBob, 1}}}};
  return plan;
}

/// Bob's step, then ann's.
RoundPlan two_turns() {
  RoundPlan plan{.batch_sizes = {{kAnn, {1}}, {kBob, {1}}}};
  plan.lanes = {{{{kBob, 0}}, {{kAnn, 0}}}};
  plan.turns = {kBob, kAnn};
  return plan;
}

struct Bench {
  explicit Bench(SessionOptions wanted, RoundPlan plan = two_lanes(), bool has_turns = false)
      : options(std::move(wanted)), round(RoundId{1}, std::move(plan)) {
    if (has_turns) relay.emplace(round);
    for (const ClientId& client : {kAnn, kBob}) (void)roster.admit(client, {1}, 1, {}, now);
    deadlines.emplace(options, clock, roster, round, relay ? &*relay : nullptr);
  }
  /// That much of the time until now data were on their way to or from the client.
  void transfer(const ClientId& client, int time) { roster.find(client)->transfer += seconds(time); }
  /// That long after the beginning.
  static TimePoint at(int after) { return TimePoint{} + seconds(1000 + after); }
  void set(int after) { now = at(after); }

  SessionOptions options;
  TimePoint now = at(0);
  DeadlineClock clock{[this] { return now; }};
  Roster roster;
  Round round;
  std::optional<RelayTurns> relay;
  std::optional<RoundDeadlines> deadlines;
};

using Lanes = std::vector<size_t>;
using Clients = std::vector<ClientId>;

}  // namespace

TEST_SUITE("aggregator/rounds/round_deadlines") {
  TEST_CASE("each lane has the step deadline from the moment it came to its step") {
    Bench bench(options_with());
    bench.set(4);
    bench.round.advance(1);
    bench.deadlines->restart_lane(1);
    CHECK(bench.deadlines->next() == Bench::at(10));
    CHECK(bench.deadlines->late_lanes(Bench::at(9)).empty());
    CHECK(bench.deadlines->late_lanes(Bench::at(10)) == Lanes{0});
    CHECK(bench.deadlines->late_lanes(Bench::at(14)) == Lanes{0, 1});
    bench.round.advance(1);
    bench.deadlines->restart_lane(1);
    CHECK(bench.deadlines->late_lanes(Bench::at(1000)) == Lanes{0});  // the other is done
    bench.round.advance(0);
    bench.round.advance(0);
    CHECK_FALSE(bench.deadlines->next().has_value());
  }

  TEST_CASE("where every third batch goes up, a step has three step deadlines") {
    SessionOptions options = options_with();
    options.plan.tail_interval = 3;
    Bench bench(options);
    CHECK(bench.deadlines->next() == Bench::at(30));
  }

  TEST_CASE("those who lag have as long as a front when nobody else is left") {
    Bench bench(options_with(StragglerRule::kLate));
    CHECK(bench.round.let_lag(kAnn));
    bench.deadlines->restart_lane(0);
    CHECK(bench.deadlines->late_lanes(Bench::at(59)) == Lanes{1});
    CHECK(bench.deadlines->late_lanes(Bench::at(60)) == Lanes{0, 1});
  }

  TEST_CASE("devices that train by themselves have a step deadline for each step and one more") {
    SessionOptions options = options_with();
    options.plan.objective = EdgeObjective::kLocal;
    Bench bench(options, RoundPlan{.batch_sizes = {{kAnn, {1, 1}}, {kBob, {1, 0}}}});
    CHECK(bench.deadlines->next() == Bench::at(20));
    CHECK(bench.deadlines->late_trainers(Bench::at(19)).empty());
    CHECK(bench.deadlines->late_trainers(Bench::at(20)) == Clients{kBob});
    CHECK(bench.deadlines->late_trainers(Bench::at(30)) == Clients{kAnn, kBob});
    bench.round.participants().at(kBob).trained = true;
    bench.round.deactivate(kAnn);
    CHECK(bench.deadlines->late_trainers(Bench::at(1000)).empty());
    CHECK_FALSE(bench.deadlines->next().has_value());

    options.stragglers = StragglerRule::kLate;  // and then as long as a front
    Bench patient(options, RoundPlan{.batch_sizes = {{kAnn, {1, 1}}}});
    CHECK(patient.deadlines->next() == Bench::at(90));
  }

  TEST_CASE("who waits for everybody has no deadline but the round's and the fronts'") {
    SessionOptions options = options_with(StragglerRule::kWait);
    options.plan.objective = EdgeObjective::kLocal;
    CHECK_FALSE(Bench(options).deadlines->next().has_value());
    options.round_deadline = seconds(500);
    Bench bench(options);
    CHECK(bench.deadlines->next() == Bench::at(500));
    CHECK(bench.deadlines->late_lanes(Bench::at(1000)).empty());
    CHECK(bench.deadlines->late_trainers(Bench::at(1000)).empty());
    CHECK_FALSE(bench.deadlines->round_is_up(Bench::at(499)));
    CHECK(bench.deadlines->round_is_up(Bench::at(500)));
    bench.deadlines->end_round();
    CHECK_FALSE(bench.deadlines->round_is_up(Bench::at(500)));
    bench.set(500);
    bench.deadlines->ask_for_fronts();
    CHECK(bench.deadlines->fronts() == Bench::at(560));
    CHECK_FALSE(bench.deadlines->fronts_are_late(Bench::at(559)));
    CHECK(bench.deadlines->fronts_are_late(Bench::at(560)));
  }

  TEST_CASE("relay: time runs only against whoever has the front, and was not asked for it") {
    Bench bench(options_with(), two_turns(), true);
    bench.relay->begin();
    bench.deadlines->begin_turn();
    CHECK(bench.deadlines->next() == Bench::at(10));
    bench.set(3);
    bench.round.advance(0);  // the lane is at ann's step, bob has the front
    bench.deadlines->restart_lane(0);
    CHECK_FALSE(bench.deadlines->next().has_value());
    bench.relay->ask_for_front();
    bench.deadlines->ask_for_fronts();
    CHECK(bench.deadlines->next() == Bench::at(63));
    CHECK(bench.deadlines->late_lanes(Bench::at(1000)).empty());
    bench.set(20);
    bench.relay->pass_on();
    bench.deadlines->begin_turn();
    CHECK(bench.deadlines->next() == Bench::at(30));
    CHECK(bench.deadlines->late_lanes(Bench::at(30)) == Lanes{0});
  }

  TEST_CASE("relay: a device that trains by itself has its time from its turn on") {
    SessionOptions options = options_with();
    options.plan.objective = EdgeObjective::kLocal;
    RoundPlan plan = two_turns();
    plan.lanes.clear();
    Bench bench(options, plan, true);
    bench.relay->begin();
    CHECK(bench.deadlines->late_trainers(Bench::at(20)) == Clients{kBob});
    bench.set(15);
    bench.relay->pass_on();
    bench.deadlines->begin_turn();
    CHECK(bench.deadlines->next() == Bench::at(35));
    CHECK(bench.deadlines->late_trainers(Bench::at(35)) == Clients{kAnn});
  }

  TEST_CASE("a step's deadline is put off while its data are on their way, up to what the options allow") {
    SessionOptions options = options_with();
    options.step_allowance = seconds(100);
    Bench bench(options);
    bench.transfer(kAnn, 7);
    CHECK(bench.deadlines->late_lanes(Bench::at(10)) == Lanes{1});
    CHECK(bench.deadlines->late_lanes(Bench::at(17)) == Lanes{0, 1});
    bench.transfer(kAnn, 93);
    bench.transfer(kAnn, 1000);
    CHECK(bench.deadlines->late_lanes(Bench::at(109)) == Lanes{1});
    CHECK(bench.deadlines->late_lanes(Bench::at(110)) == Lanes{0, 1});
    // What was before the step puts nothing off.
    bench.set(20);
    bench.deadlines->restart_lane(0);
    CHECK(bench.deadlines->late_lanes(Bench::at(29)) == Lanes{1});
    CHECK(bench.deadlines->late_lanes(Bench::at(30)) == Lanes{0, 1});
    // One that the user gave holds.
    Bench strict(options_with());
    strict.transfer(kAnn, 7);
    CHECK(strict.deadlines->late_lanes(Bench::at(10)) == Lanes{0, 1});
    CHECK(strict.deadlines->next() == Bench::at(10));
  }

  TEST_CASE("where a step is everybody's it waits for the slowest link") {
    SessionOptions options = options_with();
    options.step_allowance = seconds(100);
    RoundPlan plan{.batch_sizes = {{kAnn, {1}}, {kBob, {1}}}};
    plan.lanes = {{{{kAnn, 0}, {kBob, 0}}}};
    Bench bench(options, plan);
    bench.transfer(kAnn, 3);
    bench.transfer(kBob, 8);
    CHECK(bench.deadlines->next() == Bench::at(18));
  }

  TEST_CASE("devices that train by themselves, and fronts, have the time of their transfers on top") {
    SessionOptions options = options_with();
    options.plan.objective = EdgeObjective::kLocal;
    options.step_allowance = seconds(30);
    options.update_allowance = seconds(40);
    Bench bench(options, RoundPlan{.batch_sizes = {{kAnn, {1, 1}}, {kBob, {1, 0}}}});
    bench.transfer(kBob, 15);
    CHECK(bench.deadlines->late_trainers(Bench::at(30)) == Clients{kAnn});
    CHECK(bench.deadlines->late_trainers(Bench::at(35)) == Clients{kAnn, kBob});
    bench.set(50);
    bench.deadlines->ask_for_fronts();
    CHECK(bench.deadlines->fronts() == Bench::at(110));
    bench.transfer(kAnn, 50);
    CHECK(bench.deadlines->fronts() == Bench::at(150));
    CHECK_FALSE(bench.deadlines->fronts_are_late(Bench::at(149)));
  }

  TEST_CASE("after a pause everything has as long as was left") {
    SessionOptions options = options_with();
    options.round_deadline = seconds(500);
    Bench bench(options);
    bench.set(4);
    bench.deadlines->ask_for_fronts();
    bench.clock.pause();
    bench.set(104);
    bench.deadlines->restart_lane(1);  // in the pause it is still 4
    bench.deadlines->move(bench.clock.go_on());
    CHECK(bench.deadlines->late_lanes(Bench::at(110)) == Lanes{0});
    CHECK(bench.deadlines->late_lanes(Bench::at(114)) == Lanes{0, 1});
    CHECK(bench.deadlines->fronts() == Bench::at(164));
    CHECK_FALSE(bench.deadlines->round_is_up(Bench::at(599)));
    CHECK(bench.deadlines->round_is_up(Bench::at(600)));
  }
}
