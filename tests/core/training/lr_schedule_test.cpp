#include "tandem/core/training/lr_schedule.h"

#include <cmath>
#include <limits>
#include <numbers>

#include "support/test.h"

namespace tandem {

TEST_SUITE("core/training/lr_schedule") {
  TEST_CASE("the constant schedule is 1 for ever") {
    for (const int64_t step : {int64_t{0}, int64_t{1}, int64_t{1'000'000'000'000}}) {
      CHECK(lr_factor({}, step) == 1.0);
    }
  }

  TEST_CASE("warm-up rises in equal steps, never is zero and ends where the schedule begins") {
    const LrScheduleOptions schedule{.warmup_steps = 4};
    const double expected[] = {0.2, 0.4, 0.6, 0.8, 1.0, 1.0};
    for (int64_t step = 0; step < 6; ++step)
      CHECK(lr_factor(schedule, step) == doctest::Approx(expected[step]));
  }

  TEST_CASE("the step schedule drops by its factor every period, counted after the warm-up") {
    const LrScheduleOptions schedule{
        .kind = LrScheduleKind::kStep, .warmup_steps = 2, .period_steps = 3, .step_factor = 0.5};
    const double expected[] = {1.0 / 3, 2.0 / 3, 1, 1, 1, 0.5, 0.5, 0.5, 0.25};
    for (int64_t step = 0; step < 9; ++step)
      CHECK(lr_factor(schedule, step) == doctest::Approx(expected[step]));
  }

  TEST_CASE("the cosine schedule falls from 1 over the half to its final factor and stays there") {
    const LrScheduleOptions schedule{
        .kind = LrScheduleKind::kCosine, .warmup_steps = 10, .period_steps = 100, .final_factor = 0.2};
    CHECK(lr_factor(schedule, 10) == 1.0);
    CHECK(lr_factor(schedule, 60) == doctest::Approx(0.6));
    // cos(pi / 3) = 1/2: 0.2 + 0.8 * 0.75; cos(pi / 4) = sqrt(2) / 2.
    CHECK(lr_factor({.kind = LrScheduleKind::kCosine, .period_steps = 3, .final_factor = 0.2}, 1) ==
          doctest::Approx(0.8));
    CHECK(lr_factor(schedule, 35) == doctest::Approx(0.2 + 0.4 * (1.0 + std::numbers::sqrt2 / 2)));
    CHECK(lr_factor(schedule, 110) == 0.2);
    CHECK(lr_factor(schedule, 1'000'000) == 0.2);
  }

  TEST_CASE("the cosine's period may be a fraction of steps") {
    const LrScheduleOptions schedule{.kind = LrScheduleKind::kCosine, .period_steps = 3.6};
    CHECK(lr_factor(schedule, 0) == 1.0);
    CHECK(lr_factor(schedule, 3) == doctest::Approx((1.0 + std::cos(std::numbers::pi * 3 / 3.6)) / 2));
    CHECK(lr_factor(schedule, 4) == 0.0);
  }

  TEST_CASE("validated returns good options and names the first bad field") {
    CHECK(LrScheduleOptions{.warmup_steps = 3}.validated().warmup_steps == 3);
    const auto mistake = [](const LrScheduleOptions& options) -> std::string {
      try {
        (void)options.validated();
      } catch (const std::invalid_argument& error) {
        return error.what();
      }
      return "";
    };
    CHECK(mistake({.warmup_steps = -1}) == "LrScheduleOptions.warmup_steps must be >= 0, got -1");
    CHECK(mistake({.period_steps = 0}) == "LrScheduleOptions.period_steps must be >= 1 and finite, got 0");
    CHECK(mistake({.step_factor = 0.0}) == "LrScheduleOptions.step_factor must be in (0, 1], got 0");
    CHECK(mistake({.step_factor = std::numeric_limits<double>::quiet_NaN()}) ==
          "LrScheduleOptions.step_factor must be in (0, 1], got nan");
    CHECK(mistake({.final_factor = 1.5}) == "LrScheduleOptions.final_factor must be in [0, 1], got 1.5");
    CHECK(mistake({.kind = static_cast<LrScheduleKind>(9)}) ==
          "LrScheduleOptions.kind must be 0 (constant), 1 (step) or 2 (cosine), got 9");
  }
}

}  // namespace tandem
