#include <chrono>
#include <future>

#include "core/transport/peers.h"
#include "support/tcp_relay.h"
#include "support/test.h"
#include "tandem/core/transport/zmtp_probe_detail.h"

namespace tandem::transport_detail {
namespace {

using namespace test;  // NOLINT: the helpers of this test

TcpEndpoint loopback(uint16_t port) {
  return {"127.0.0.1", std::to_string(port)};
}

bool probe(const TcpEndpoint& address, milliseconds limit = kPatience) {
  WakeUp wake;
  return speaks_zmtp(address, limit, wake, [] { return false; });
}

}  // namespace

TEST_SUITE("core/transport/zmtp_probe") {
  TEST_CASE("a server answers, a forwarder without one does not") {
    const test::Fleet fleet;
    const auto server = start_server(fleet.server_options(), [](ReceivedFrames) {});
    REQUIRE(server);
    const uint16_t port = port_of((*server)->endpoint());
    CHECK(probe(loopback(port)));
    TcpRelay relay({.target_port = port});
    CHECK(probe(loopback(relay.port())));
    relay.cut(true);
    CHECK_FALSE(probe(loopback(relay.port())));
    relay.cut(false);
    relay.set_frozen(true);
    CHECK_FALSE(probe(loopback(relay.port()), milliseconds(50)));
  }

  TEST_CASE("a stop ends the waiting for an answer") {
    TcpRelay relay({.target_port = 1});
    relay.set_frozen(true);
    WakeUp wake;
    wake.signal();
    CHECK_FALSE(speaks_zmtp(loopback(relay.port()), std::chrono::hours(1), wake, [] { return true; }));
  }

  TEST_CASE("where nobody listens nobody answers") {
    uint16_t port = 0;
    {
      const TcpRelay relay({.target_port = 1});
      port = relay.port();
    }
    CHECK_FALSE(probe(loopback(port)));
  }
}

}  // namespace tandem::transport_detail
