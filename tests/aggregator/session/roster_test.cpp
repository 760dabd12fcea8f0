#include "tandem/aggregator/session/roster.h"
//
#include "support/test.h"

using namespace tandem;
using namespace tandem::aggregator;

TEST_SUITE("aggregator/session/roster") {
  const ClientId cam{"cam-1"};
  const DataDescription data{.input_shape = {1, 8, 8}, .num_classes = 4, .num_examples = 10};
  const TimePoint start{};

  TEST_CASE("the same program instance on a new connection has reconnected") {
    Roster roster;
    CHECK(roster.admit(cam, {1}, 77, data, start).arrival == Roster::Arrival::kNew);
    CHECK(roster.admit(cam, {2}, 77, data, start).arrival == Roster::Arrival::kReconnected);
    CHECK(roster.find(cam, {1}) == nullptr);
    CHECK(roster.find(cam, {2}) != nullptr);
  }

  TEST_CASE("another program instance with the same key replaces the first") {
    Roster roster;
    (void)roster.admit(cam, {1}, 77, data, start);
    const auto admission = roster.admit(cam, {2}, 78, data, start);
    CHECK(admission.arrival == Roster::Arrival::kReplaced);
    CHECK(admission.previous == ConnectionId{1});
  }

  TEST_CASE("a client that left and comes back goes on with its examples where it was") {
    Roster roster;
    (void)roster.admit(cam, {1}, 77, data, start);
    roster.find(cam)->position = 120;
    roster.depart(cam);
    CHECK(roster.present().empty());
    CHECK(roster.admit(cam, {2}, 78, data, start).arrival == Roster::Arrival::kNew);
    CHECK(roster.find(cam)->position == 120);
    CHECK(roster.present() == std::vector<ClientId>{cam});
  }

  TEST_CASE("silence is measured from the last message") {
    Roster roster;
    (void)roster.admit(cam, {1}, 77, data, start);
    (void)roster.admit({"cam-2"}, {2}, 78, data, start + std::chrono::seconds(3));
    CHECK(roster.silent_since(start + std::chrono::seconds(1)) == std::vector<ClientId>{cam});
    CHECK(roster.silent_since(start).empty());
  }
}
