#include "tandem/aggregator/rounds/run_schedules.h"

#include <iterator>
#include <map>
#include <string>
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
  options.plan.algorithm = find_algorithm(algorithm).value();
  options.plan.rounds = 10;
  options.plan.lr_schedule = {.kind = LrScheduleKind::kCosine, .warmup_steps = 3};
  return options;
}

using Clients = std::map<ClientId, RoundPlanner::ClientData>;

/// As many clients with so many examples each.
Clients clients_with(const std::vector<int64_t>& examples) {
  Clients clients;
  for (const int64_t count : examples)
    clients[{"client-" + std::to_string(clients.size())}] = {.examples = count};
  return clients;
}

/// The schedules of a run whose first round has the first `drawn` of these clients, by the run's own planner.
RunSchedules schedules_of(const SessionOptions& options, const Clients& present, size_t drawn) {
  RoundPlanner planner(planner_options(options, 1));
  const Clients chosen(present.begin(), std::next(present.begin(), static_cast<std::ptrdiff_t>(drawn)));
  RunSchedules schedules(options);
  schedules.fix(planner.plan(chosen, 1), present, planner);
  return schedules;
}

/// Takes a plan of all clients that are there.
void fix(RunSchedules& schedules, const RoundPlan& plan) {
  Clients present;
  for (const auto& [client, sizes] : plan.batch_sizes) present[client] = {.examples = 4};
  schedules.fix(plan, present, RoundPlanner({}));
}

/// Four steps of ann, two of bob; every lane has as many entries as `lanes` says.
RoundPlan plan_with(const std::vector<size_t>& lanes) {
  RoundPlan plan{.batch_sizes = {{kAnn, {1, 1, 1, 1}}, {kBob, {1, 1}}}};
  for (const size_t steps : lanes) plan.lanes.emplace_back(steps);
  return plan;
}

}  // namespace

TEST_SUITE("aggregator/rounds/run_schedules") {
  TEST_CASE("a schedule that spans the run ends with its owner's last step") {
    const SessionOptions options = options_with("splitfed-v2");
    RunSchedules schedules(options);
    CHECK_FALSE(schedules.known());
    fix(schedules, plan_with({6}));
    CHECK(schedules.known());
    CHECK(schedules.device().period_steps == 4 * 10 - 3);
    CHECK(schedules.tail().period_steps == 6 * 10 - 3);  // one tail makes everybody's steps
    CHECK(schedules.device().warmup_steps == 3);
  }

  TEST_CASE("devices that are drawn now and then make fewer steps, which are rounded in no round") {
    SessionOptions options = options_with("federated");
    options.plan.lr_schedule.warmup_steps = 0;
    options.plan.rounds = 6;
    options.batch_size = 25;
    CHECK(schedules_of(options, clients_with({100, 100, 100}), 1).device().period_steps == 8);
    options.plan.lr_schedule.warmup_steps = 3;
    CHECK(schedules_of(options, clients_with({100, 100, 100}), 1).device().period_steps == 8 - 3);

    options.plan.lr_schedule.warmup_steps = 0;
    options.plan.rounds = 12;
    options.local_steps = 3;
    CHECK(schedules_of(options, clients_with(std::vector<int64_t>(10, 40)), 1).device().period_steps ==
          doctest::Approx(3.6));
  }

  TEST_CASE("whoever is drawn first, the client with most steps counts") {
    SessionOptions options = options_with("federated");
    options.batch_size = 10;
    for (const std::vector<int64_t>& examples :
         {std::vector<int64_t>{10, 20, 40}, std::vector<int64_t>{40, 20, 10}}) {
      CHECK(schedules_of(options, clients_with(examples), 1).device().period_steps ==
            doctest::Approx(4 * 10 / 3.0 - 3));
    }
  }

  TEST_CASE("a replica of the tail is drawn as its device is, a shared tail makes the steps of whoever is") {
    SessionOptions options = options_with("splitfed-v1");
    options.batch_size = 10;
    const Clients present = clients_with({40, 20, 20, 20});
    RunSchedules replicas = schedules_of(options, present, 2);
    CHECK(replicas.device().period_steps == 4 * 10 / 2.0 - 3);
    CHECK(replicas.tail().period_steps == 4 * 10 / 2.0 - 3);

    for (const char* algorithm : {"splitfed-v2", "relay"}) {
      options.plan.algorithm = find_algorithm(algorithm).value();
      RunSchedules shared = schedules_of(options, present, 2);
      CHECK(shared.device().period_steps == 4 * 10 / 2.0 - 3);
      CHECK(shared.tail().period_steps == 2 * 2.5 * 10 - 3);  // two average clients in each round
    }
    options.plan.objective = EdgeObjective::kLocal;
    options.plan.tail_interval = 2;
    RunSchedules local = schedules_of(options, present, 2);
    CHECK(local.device().period_steps == 4 * 10 / 2.0 - 3);
    CHECK(local.tail().period_steps == 2 * 1.25 * 10 - 3);
  }

  TEST_CASE("the joined steps of parallel follow the examples of the clients that are drawn") {
    SessionOptions options = options_with("parallel");
    options.batch_size = 10;
    RunSchedules equal = schedules_of(options, clients_with({20, 20, 20, 20}), 2);
    CHECK(equal.tail().period_steps == 4 * 10 - 3);  // the one tail is there in every round
    CHECK(equal.device().period_steps == 4 * 10 / 2.0 - 3);
    // The first two bring 40 examples to the first round, two average ones 60.
    RunSchedules unequal = schedules_of(options, clients_with({20, 20, 30, 50}), 2);
    CHECK(unequal.tail().period_steps == doctest::Approx(6 * 10 - 3));
    CHECK(unequal.device().period_steps == doctest::Approx(6 * 10 / 2.0 - 3));
    options.local_steps = 3;
    RunSchedules fixed = schedules_of(options, clients_with({20, 20, 30, 50}), 2);
    CHECK(fixed.tail().period_steps == 3 * 10 - 3);
    CHECK(fixed.device().period_steps == 3 * 10 / 2.0 - 3);
  }

  TEST_CASE("what a tail replays counts, in the rounds in which it does") {
    SessionOptions options = options_with("splitfed-v2");
    options.plan.objective = EdgeObjective::kAligned;
    options.alignment.tail_epochs = 4;
    options.alignment.interval = 3;  // three of the ten rounds
    RunSchedules schedules(options);
    fix(schedules, plan_with({6}));
    CHECK(schedules.tail().period_steps == 6 * 10 + 3 * 4 * 6 - 3);
    CHECK(schedules.device().period_steps == 4 * 10 - 3);
  }

  TEST_CASE("the period is at least one step") {
    SessionOptions options = options_with("federated");
    options.plan.lr_schedule.warmup_steps = 1000;
    RunSchedules schedules(options);
    fix(schedules, plan_with({}));
    CHECK(schedules.device().period_steps == 1);
    CHECK(schedules.tail().period_steps == 1);
  }

  TEST_CASE("a period that was asked for stands") {
    SessionOptions options = options_with("parallel");
    options.schedule_spans_run = false;
    options.plan.lr_schedule.period_steps = 77;
    RunSchedules schedules(options);
    fix(schedules, plan_with({4}));
    CHECK(schedules.known());
    CHECK(schedules.device().period_steps == 77);
    CHECK(schedules.tail().period_steps == 77);
  }

  TEST_CASE("after a restart the first round's plan still counts") {
    const SessionOptions options = options_with("splitfed-v2");
    RunSchedules before(options), after(options);
    fix(before, plan_with({6}));
    after.load_state(before.state());
    CHECK(after.known());
    CHECK(after.device().period_steps == before.device().period_steps);
    CHECK(after.tail().period_steps == before.tail().period_steps);
    CHECK_THROWS_AS(after.load_state({{"schedules_known", true}}), nlohmann::json::exception);
  }
}
