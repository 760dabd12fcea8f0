#include "tandem/core/transport/link_meter_detail.h"

#include "support/test.h"

using namespace tandem;
using namespace tandem::transport_detail;
using namespace std::chrono_literals;

namespace {

const LinkTime kStart{1h};

}  // namespace

TEST_SUITE("core/transport/link_meter") {
  TEST_CASE("a transfer is told from heartbeats by its rate") {
    TransferMeter meter;
    meter.begin(kStart, 700);
    CHECK_FALSE(meter.look(kStart + 249ms, 1'000'000).has_value());  // too soon to say
    CHECK(meter.look(kStart + 500ms, 2748) == 500ms);                // 4096 bytes a second
    CHECK(meter.look(kStart + 1000ms, 2748 + 2047) == 0ms);          // a byte less
    CHECK(meter.look(kStart + 1250ms, 2748 + 2047) == 0ms);
    // What came after a long silence came in the last second at most.
    CHECK(meter.look(kStart + 11250ms, 1'000'000) == 1000ms);
  }

  TEST_CASE("a message has left when its last byte was acknowledged") {
    DepartureLedger ledger;
    ledger.begin(650);
    CHECK_FALSE(ledger.oldest().has_value());
    ledger.handed_over(kStart, 100'000);
    ledger.handed_over(kStart + 1s, 50'000);
    CHECK(ledger.oldest() == kStart);
    CHECK(ledger.bytes_left() == 150'000);
    ledger.acknowledged(650 + 99'999);
    CHECK(ledger.oldest() == kStart);
    CHECK(ledger.bytes_left() == 50'001);
    ledger.acknowledged(650 + 100'000);
    CHECK(ledger.oldest() == kStart + 1s);
    ledger.acknowledged(650 + 150'300);  // with what transport adds
    CHECK_FALSE(ledger.oldest().has_value());
    CHECK(ledger.bytes_left() == 0);
  }

  TEST_CASE("pings between messages do not make the next one seem to have left") {
    DepartureLedger ledger;
    ledger.begin(0);
    ledger.handed_over(kStart, 1000);
    ledger.acknowledged(1042);
    ledger.acknowledged(9000);
    ledger.handed_over(kStart + 9s, 1000);
    ledger.acknowledged(9999);
    CHECK(ledger.oldest() == kStart + 9s);
    ledger.acknowledged(10'042);
    CHECK_FALSE(ledger.oldest().has_value());
  }

  TEST_CASE("a new connection has nothing of the old one") {
    DepartureLedger ledger;
    ledger.begin(0);
    ledger.handed_over(kStart, 1000);
    ledger.begin(650);
    CHECK_FALSE(ledger.oldest().has_value());
    ledger.handed_over(kStart + 1s, 10);
    ledger.acknowledged(659);
    CHECK(ledger.oldest() == kStart + 1s);
  }
}
