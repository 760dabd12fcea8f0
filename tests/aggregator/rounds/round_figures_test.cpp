#include "tandem/aggregator/rounds/round_figures.h"
//
#include "support/test.h"

using namespace tandem;
using namespace tandem::aggregator;

namespace {

const ClientId kAnn{"ann"};
const ClientId kBob{"bob"};

}  // namespace

TEST_SUITE("aggregator/rounds/round_figures") {
  TEST_CASE("a report of steps counts all tails' steps and weighs clients by their examples") {
    RoundPlan plan{.batch_sizes = {{kAnn, {6, 6}}, {kBob, {2}}}};
    plan.lanes = {{{{kAnn, 0}}, {{kAnn, 1}}}, {{{kBob, 0}}}};
    Round round(RoundId{1}, std::move(plan));
    CHECK(step_report(round).loss == 0);
    round.count_step(kAnn, {6, 3, 6});
    round.count_step(kBob, {2, 5, 0});
    round.advance(0);
    const StepReport report = step_report(round);
    CHECK(report.steps == 3);
    CHECK(report.steps_done == 1);
    CHECK(report.examples == 8);
    CHECK(report.loss == 1);
    CHECK(report.accuracy == 0.75);
  }

  TEST_CASE("where no step goes up the devices that are done count") {
    Round round(RoundId{1}, RoundPlan{.batch_sizes = {{kAnn, {6, 6}}, {kBob, {2}}}});
    CHECK(step_report(round).steps == 2);
    CHECK(step_report(round).steps_done == 0);
    round.participants().at(kBob).trained = true;
    CHECK(step_report(round).steps_done == 1);
  }
}
