// A client's attempts to connect, and what the monitor of a socket hears of them.
#include "tandem/core/transport/connection_attempt_detail.h"

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <zmq.hpp>

#include "tandem/core/transport/socket_monitor_detail.h"
#include "tandem/core/transport/zmq_detail.h"
//
#include "core/transport/peers.h"
#include "support/test.h"

namespace tandem::transport_detail {
namespace {

using namespace test;  // NOLINT: the helpers of this test

/// The next event of this kind, others are passed over; nothing after the test's patience.
std::optional<SocketMonitor::Event> await(SocketMonitor& monitor, uint16_t kind) {
  const auto deadline = soon();
  while (std::chrono::steady_clock::now() < deadline) {
    zmq_pollitem_t item{monitor.handle(), 0, ZMQ_POLLIN, 0};
    zmq_poll(&item, 1, 100);
    while (const auto event = monitor.next()) {
      if (event->kind == kind) return event;
    }
  }
  return std::nullopt;
}

TcpEndpoint address_of(const std::string& endpoint) {
  return parse_endpoint("endpoint", endpoint, EndpointUse::kConnect).value();
}

}  // namespace

TEST_SUITE("core/transport/connection_attempt") {
  TEST_CASE("an attempt becomes a connection, and its end is heard") {
    ServerInbox inbox;
    auto server = start_server(insecure_server(), inbox.handler()).value();
    const auto options = insecure_client(server->endpoint(), "cam-1");
    zmq::context_t context;
    ConnectionAttempt attempt(context, options, address_of(server->endpoint()), 1);
    CHECK_FALSE(attempt.ready);
    CHECK(attempt.deadline > std::chrono::steady_clock::now());
    const auto connected = await(attempt.monitor(), ZMQ_EVENT_CONNECTED);
    REQUIRE(connected);
    CHECK(connected->value > 0);  // the descriptor
    REQUIRE(await(attempt.monitor(), ZMQ_EVENT_HANDSHAKE_SUCCEEDED));
    REQUIRE(send_frames(attempt.socket(), "", text_message("hello")) == SendOutcome::kSent);
    const auto message = inbox.next();
    REQUIRE(message);
    CHECK(message->client == ClientId{"cam-1"});
    server.reset();
    CHECK(await(attempt.monitor(), ZMQ_EVENT_DISCONNECTED));
  }

  TEST_CASE("where nobody listens the attempt hears of it, and another one may follow in the same context") {
    std::string nobody;
    {
      const auto server = start_server(insecure_server(), [](ReceivedFrames) {}).value();
      nobody = server->endpoint();
    }
    const auto options = insecure_client(nobody, "cam-1");
    zmq::context_t context;
    for (uint64_t number = 1; number <= 2; ++number) {
      ConnectionAttempt attempt(context, options, address_of(nobody), number);
      CHECK(await(attempt.monitor(), ZMQ_EVENT_CLOSED));
    }
  }

  TEST_CASE("a monitor hears only what it asked for, and two of one name are refused") {
    zmq::context_t context;
    zmq::socket_t router(context, zmq::socket_type::router);
    SocketMonitor monitor(context, router, "first", ZMQ_EVENT_LISTENING);
    router.bind("tcp://127.0.0.1:*");
    const auto listening = await(monitor, ZMQ_EVENT_LISTENING);
    REQUIRE(listening);
    CHECK(listening->value > 0);
    CHECK_FALSE(monitor.next());
    zmq::socket_t other(context, zmq::socket_type::router);
    CHECK_THROWS_AS(SocketMonitor(context, other, "first", ZMQ_EVENT_LISTENING), zmq::error_t);
  }
}

}  // namespace tandem::transport_detail
