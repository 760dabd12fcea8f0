#include "tandem/core/base/random.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <vector>
//
#include "support/test.h"

using namespace tandem;

namespace {

struct Moments {
  double mean = 0, variance = 0;
};

template <class Draw>
Moments moments(Draw draw, int count = 200'000) {
  double sum = 0, squares = 0;
  for (int i = 0; i < count; ++i) {
    const double x = draw();
    sum += x;
    squares += x * x;
  }
  const double mean = sum / count;
  return {mean, squares / count - mean * mean};
}

}  // namespace

TEST_SUITE("core/base/random") {
  TEST_CASE("SplitMix64 gives the published sequence") {
    // Reference values of Vigna's splitmix64.c for the state 1234567.
    SplitMix64 random(1234567);
    CHECK(random() == 6457827717110365317ull);
    CHECK(random() == 3203168211198807973ull);
    CHECK(random() == 9817491932198370423ull);
  }

  TEST_CASE("seeds depend on the run, the purpose, and every element of the path and its place") {
    std::set<uint64_t> seeds;
    for (uint64_t run = 0; run < 4; ++run) {
      for (const auto purpose : {RandomPurpose::kShuffle, RandomPurpose::kAugment}) {
        seeds.insert(derive_seed(run, purpose, {}));
        for (uint64_t a = 0; a < 8; ++a) {
          seeds.insert(derive_seed(run, purpose, {a}));
          for (uint64_t b = 0; b < 8; ++b) seeds.insert(derive_seed(run, purpose, {a, b}));
        }
      }
    }
    CHECK(seeds.size() == 4 * 2 * (1 + 8 + 64));
    CHECK(derive_seed(1, RandomPurpose::kShuffle, {1, 2}) == derive_seed(1, RandomPurpose::kShuffle, {1, 2}));
  }

  TEST_CASE("names hash to fixed values") {
    // XXH3-64 of the empty string, from its specification: seeds must be the same on every machine.
    CHECK(hash_name("") == 0x2D06800538D394C2ull);
    CHECK(hash_name("cam-1") != hash_name("cam-2"));
  }

  TEST_CASE("below is uniform and stays below") {
    SplitMix64 random(5);
    std::vector<int> counts(7);
    for (int i = 0; i < 70'000; ++i) ++counts[random.below(7)];
    for (const int count : counts)
      CHECK(std::abs(count - 10'000) < 4 * std::sqrt(70'000 * (1.0 / 7) * (6.0 / 7)));
    CHECK(random.below(1) == 0);
  }

  TEST_CASE("uniform, normal and gamma have their moments") {
    SplitMix64 random(6);
    const Moments uniform = moments([&] { return random.uniform(); });
    CHECK(uniform.mean == doctest::Approx(0.5).epsilon(0.01));
    CHECK(uniform.variance == doctest::Approx(1.0 / 12).epsilon(0.02));
    const Moments normal = moments([&] { return random.normal(); });
    CHECK(std::abs(normal.mean) < 0.01);
    CHECK(normal.variance == doctest::Approx(1.0).epsilon(0.02));
    for (const double shape : {0.1, 0.5, 1.0, 3.5}) {
      CAPTURE(shape);
      const Moments gamma = moments([&] { return random.gamma(shape); });
      CHECK(gamma.mean == doctest::Approx(shape).epsilon(0.03));
      CHECK(gamma.variance == doctest::Approx(shape).epsilon(0.06));
    }
  }

  TEST_CASE("a permutation holds every number once and follows its seed") {
    auto order = random_permutation(1000, 9);
    CHECK(order == random_permutation(1000, 9));
    CHECK(order != random_permutation(1000, 10));
    std::sort(order.begin(), order.end());
    for (int64_t i = 0; i < 1000; ++i) CHECK(order[static_cast<size_t>(i)] == i);
    CHECK(random_permutation(0, 1).empty());
  }
}
