#include "tandem/core/transport/reconnect_backoff.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <set>

#include "support/test.h"

namespace tandem {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kFirst{100};
constexpr milliseconds kLongest{2000};

/// The longest and the mean n-th wait of many clients, in ms.
struct Waits {
  int64_t longest = 0;
  double mean = 0;
};

Waits nth_wait(int n) {
  constexpr int kClients = 4000;
  Waits waits;
  for (uint64_t seed = 0; seed < kClients; ++seed) {
    ReconnectBackoff backoff(kFirst, kLongest, seed);
    for (int i = 1; i < n; ++i) (void)backoff.next();
    const int64_t wait = backoff.next().count();
    CHECK(wait >= 0);
    waits.longest = std::max(waits.longest, wait);
    waits.mean += static_cast<double>(wait) / kClients;
  }
  return waits;
}

}  // namespace

TEST_SUITE("core/transport/reconnect_backoff") {
  TEST_CASE("waits are spread evenly up to a limit that doubles and then stays") {
    int n = 0;
    for (const int64_t limit : {100, 200, 400, 800, 1600, 2000, 2000, 2000}) {
      CAPTURE(limit);
      const Waits waits = nth_wait(++n);
      CHECK(waits.longest <= limit);
      CHECK(waits.longest > limit * 98 / 100);
      // 4000 draws, evenly from [0, limit]: five standard deviations of their mean.
      CHECK(std::abs(waits.mean - static_cast<double>(limit) / 2) < 0.023 * static_cast<double>(limit));
    }
  }

  TEST_CASE("a connection that lived resets the limit, one that did not counts as a failed attempt") {
    ReconnectBackoff backoff(kFirst, kLongest, 1);
    for (int i = 0; i < 10; ++i) (void)backoff.next();
    backoff.connection_ended(kLongest - milliseconds(1));
    milliseconds longest{0};
    for (int i = 0; i < 100; ++i) longest = std::max(longest, backoff.next());
    CHECK(longest > milliseconds(1900));
    for (int i = 0; i < 100; ++i) {
      backoff.connection_ended(kLongest);
      CHECK(backoff.next() <= kFirst);
    }
  }

  TEST_CASE("a longest wait below the first counts as the first") {
    ReconnectBackoff backoff(kFirst, milliseconds(1), 1);
    std::set<milliseconds> waits;
    for (int i = 0; i < 2000; ++i) waits.insert(backoff.next());
    CHECK(*waits.rbegin() == kFirst);
    CHECK(*waits.begin() == milliseconds(0));
  }
}

}  // namespace tandem
