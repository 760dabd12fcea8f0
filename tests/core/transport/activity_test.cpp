#include "tandem/core/transport/activity_detail.h"

#include <chrono>

#include "support/test.h"

namespace tandem::transport_detail {

TEST_SUITE("core/transport/activity") {
  TEST_CASE("what is being done is told with its time, but not in its first second") {
    const Activity::TimePoint start{std::chrono::hours(1)};
    Activity activity;
    CHECK(activity.text(start).empty());
    activity.begin("connecting to HOST:1", start);
    CHECK(activity.text(start + std::chrono::milliseconds(999)) == "connecting to HOST:1");
    CHECK(activity.text(start + std::chrono::milliseconds(12'999)) == "connecting to HOST:1 for 12 s");
    activity.begin("in the handshake", start + std::chrono::seconds(13));
    CHECK(activity.text(start + std::chrono::seconds(15)) == "in the handshake for 2 s");
    activity.begin("", start + std::chrono::seconds(16));
    CHECK(activity.text(start + std::chrono::seconds(60)).empty());
  }
}

}  // namespace tandem::transport_detail
