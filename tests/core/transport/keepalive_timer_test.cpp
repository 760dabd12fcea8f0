#include "tandem/core/transport/keepalive_timer_detail.h"

#include <chrono>
#include <stdexcept>

#include "support/test.h"

namespace tandem::transport_detail {
namespace {

using std::chrono::milliseconds;
using TimePoint = KeepaliveTimer::TimePoint;

const Keepalive kEverySecond{.message = {wire::Frame::own("alive")}, .interval = milliseconds(1000)};

}  // namespace

TEST_SUITE("core/transport/keepalive_timer") {
  TEST_CASE("a keepalive is due an interval after the connection began, and after each one") {
    const TimePoint start{milliseconds(5000)};
    KeepaliveTimer timer(kEverySecond);
    timer.restart(start);
    CHECK(timer.next_due() == start + milliseconds(1000));
    CHECK_FALSE(timer.take(start + milliseconds(999), false));
    CHECK(timer.take(start + milliseconds(1000), false));
    CHECK_FALSE(timer.take(start + milliseconds(1001), false));
    CHECK(timer.take(start + milliseconds(2500), false));
    CHECK(timer.next_due() == start + milliseconds(3500));
    CHECK(timer.message().size() == 1);
  }

  TEST_CASE("one that would wait behind a message is left out, and the next is due an interval later") {
    const TimePoint start{milliseconds(5000)};
    KeepaliveTimer timer(kEverySecond);
    timer.restart(start);
    CHECK_FALSE(timer.take(start + milliseconds(1000), true));
    CHECK_FALSE(timer.take(start + milliseconds(1500), false));
    CHECK(timer.take(start + milliseconds(2000), false));
  }

  TEST_CASE("without a message nothing is ever due") {
    KeepaliveTimer timer({});
    timer.restart(TimePoint{});
    CHECK(timer.next_due() == TimePoint::max());
    CHECK_FALSE(timer.take(TimePoint{} + std::chrono::hours(1000), false));
  }

  TEST_CASE("an interval below a millisecond is the caller's mistake") {
    CHECK_THROWS_WITH_AS(KeepaliveTimer({.interval = milliseconds(0)}),
                         "Keepalive.interval must be >= 1 ms, got 0", std::invalid_argument);
  }
}

}  // namespace tandem::transport_detail
