#include "tandem/core/base/slowdown.h"

#include <chrono>
#include <ctime>

#include "support/test.h"

namespace tandem {
namespace {

double thread_ms() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) * 1e3 + static_cast<double>(time.tv_nsec) * 1e-6;
}

/// Wall time of work that needs 10 ms of a processor.
double wall_of_work() {
  const auto begun = std::chrono::steady_clock::now();
  {
    const SlowedWork slowed;
    for (const double until = thread_ms() + 10; thread_ms() < until;) {
    }
  }
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begun).count();
}

}  // namespace

TEST_SUITE("core/base/slowdown") {
  TEST_CASE("work takes so many times its processor time, and the waiting takes none") {
    set_slowdown(8);
    const double before = thread_ms();
    CHECK(wall_of_work() >= 80);
    CHECK(thread_ms() - before < 40);
    set_slowdown(1);
  }
}

}  // namespace tandem
