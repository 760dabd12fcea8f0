#include "tandem/core/base/running_clock.h"

#include "support/test.h"

using namespace tandem;
using namespace std::chrono_literals;

TEST_SUITE("core/base/running_clock") {
  TEST_CASE("time goes on as the steady clock does, but for gaps in which nobody read it") {
    const RunningTime::time_point start{1h};
    RunningTime time(start);
    CHECK(time.at(start + 200ms) == start + 200ms);
    CHECK(time.at(start + 1200ms) == start + 1200ms);
    // Stopped for a minute, of which nothing counts.
    CHECK(time.at(start + 61200ms) == start + 1200ms);
    CHECK(time.at(start + 61300ms) == start + 1300ms);
    CHECK(time.at(start + 61300ms) == start + 1300ms);
  }

  TEST_CASE("the process's clock does not go back") {
    const auto first = RunningClock::now();
    CHECK(RunningClock::now() >= first);
  }
}
