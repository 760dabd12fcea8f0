#include "tandem/aggregator/run_schedules.h"

#include <vector>

#include <nlohmann/json.hpp>

#include "support/test.h"

using namespace tandem;
using namespace tandem::aggregator;

namespace {

const ClientId kAnn{"ann"};
const ClientId kBob{"bob"};

/// Ten rounds, and three steps of warm-up before the cosine.
SessionOptions options_with(const char* algorithm) {
  SessionOptions options;
  options.clients = 4;
  options.schedule_spans_run = true;
  options.plan.algorithm = algorithm;
  options.plan.rounds = 10;
  options.plan.lr_schedule = {.kind = LrScheduleKind::kCosine, .warmup_steps = 3};
  return options;
}

/// Four steps of ann, two of bob; every lane has as many entries as `lanes` says.
RoundPlan plan_with(const std::vector<size_t>& lanes) {
  RoundPlan plan{.batch_sizes = {{kAnn, {1, 1, 1, 1}}, {kBob, {1, 1}}}};
  for (const size_t steps : lanes) plan.lanes.emplace_back(steps);
  return plan;
}

}  // namespace

TEST_SUITE("aggregator/run_schedules") {
  TEST_CASE("a schedule that spans the run ends with its owner's last step") {
    const SessionOptions options = options_with("splitfed-v2");
    RunSchedules schedules(options);
    CHECK_FALSE(schedules.known());
    schedules.fix(plan_with({6}));
    CHECK(schedules.known());
    CHECK(schedules.device().period_steps == 4 * 10 - 3);
    CHECK(schedules.tail().period_steps == 6 * 10 - 3);  // one tail makes everybody's steps
    CHECK(schedules.device().warmup_steps == 3);
  }

  TEST_CASE("devices that are drawn now and then make fewer steps, and so do their replicas of the tail") {
    SessionOptions options = options_with("splitfed-v1");
    options.clients_per_round = 2;
    RunSchedules schedules(options);
    schedules.fix(plan_with({4, 2}));
    CHECK(schedules.device().period_steps == 4 * 10 / 2 - 3);
    CHECK(schedules.tail().period_steps == 4 * 10 / 2 - 3);

    options.plan.algorithm = "parallel";  // the one tail is there in every round
    RunSchedules shared(options);
    shared.fix(plan_with({4}));
    CHECK(shared.tail().period_steps == 4 * 10 - 3);
  }

  TEST_CASE("what a tail replays counts, in the rounds in which it does") {
    SessionOptions options = options_with("splitfed-v2");
    options.plan.objective = EdgeObjective::kAligned;
    options.alignment.tail_epochs = 4;
    options.alignment.interval = 3;  // three of the ten rounds
    RunSchedules schedules(options);
    schedules.fix(plan_with({6}));
    CHECK(schedules.tail().period_steps == (6 * 10 + 3 * 4 * 6) / 10 * 10 - 3);
    CHECK(schedules.device().period_steps == 4 * 10 - 3);
  }

  TEST_CASE("the period is at least one step, and without lanes a tail's counts one a round") {
    SessionOptions options = options_with("federated");
    options.plan.lr_schedule.warmup_steps = 1000;
    RunSchedules schedules(options);
    schedules.fix(plan_with({}));
    CHECK(schedules.device().period_steps == 1);
    options.plan.lr_schedule.warmup_steps = 3;
    RunSchedules later(options);
    later.fix(plan_with({}));
    CHECK(later.tail().period_steps == 1 * 10 - 3);
  }

  TEST_CASE("a period that was asked for stands") {
    SessionOptions options = options_with("parallel");
    options.schedule_spans_run = false;
    options.plan.lr_schedule.period_steps = 77;
    RunSchedules schedules(options);
    schedules.fix(plan_with({4}));
    CHECK(schedules.known());
    CHECK(schedules.device().period_steps == 77);
    CHECK(schedules.tail().period_steps == 77);
  }

  TEST_CASE("after a restart the first round's plan still counts") {
    const SessionOptions options = options_with("splitfed-v2");
    RunSchedules before(options), after(options);
    before.fix(plan_with({6}));
    after.load_state(before.state());
    CHECK(after.known());
    CHECK(after.device().period_steps == before.device().period_steps);
    CHECK(after.tail().period_steps == before.tail().period_steps);
    CHECK_THROWS_AS(after.load_state({{"schedules_known", true}}), nlohmann::json::exception);
  }
}
