#include "tandem/core/profiling/timing.h"

#include <cmath>
#include <random>
#include <stdexcept>
#include <vector>

#include "support/test.h"

using namespace tandem;

TEST_SUITE("core/profiling/timing") {
  TEST_CASE("median, quartiles and 95th percentile, by hand") {
    const Timing timing = summarize({5, 1, 4, 2, 3});
    CHECK(timing.median_ms == 3);
    CHECK(timing.iqr_ms == 2);                     // 4 - 2
    CHECK(timing.p95_ms == doctest::Approx(4.8));  // between 4 and 5
    CHECK(timing.samples == 5);
    CHECK(summarize({7}).median_ms == 7);
    CHECK(summarize({2, 4}).median_ms == 3);
    CHECK_THROWS_AS((void)summarize({}), std::invalid_argument);
  }

  TEST_CASE("the interval holds the true median about 95 times of 100, whatever the distribution") {
    std::mt19937 generator(7);
    std::exponential_distribution<double> draw(1.0);
    int held = 0;
    constexpr int kTrials = 2000;
    for (int trial = 0; trial < kTrials; ++trial) {
      std::vector<double> samples;
      for (int i = 0; i < 40; ++i) samples.push_back(draw(generator));
      const Timing timing = summarize(samples);
      held += std::abs(timing.median_ms - std::log(2.0)) <= 2 * timing.half_width * timing.median_ms;
    }
    // The median need not be in the middle of its interval; within twice the half width it nearly always is.
    CHECK(held > kTrials * 0.95);
  }

  TEST_CASE("more samples make the interval narrower") {
    std::mt19937 generator(3);
    std::normal_distribution<double> draw(10, 1);
    std::vector<double> few;
    std::vector<double> many;
    for (int i = 0; i < 400; ++i) {
      const double sample = draw(generator);
      if (i < 25) few.push_back(sample);
      many.push_back(sample);
    }
    CHECK(summarize(many).half_width < 0.5 * summarize(few).half_width);
  }

  TEST_CASE("a machine that slows down shows as drift") {
    CHECK(drift_between_halves({1, 1, 1, 1, 1, 1}) == 0);
    CHECK(drift_between_halves({1, 1, 1, 2, 2, 2}) == doctest::Approx(2.0 / 3));
    CHECK(drift_between_halves({1, 5, 2}) == 0);  // too few to say
  }
}
