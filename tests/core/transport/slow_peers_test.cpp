#include "tandem/core/transport/slow_peers_detail.h"

#include <string>
#include <zmq.hpp>

#include "tandem/core/transport/zmq_detail.h"
//
#include "support/test.h"

namespace tandem::transport_detail {
namespace {

/// Of two milliseconds: longer than any of these takes.
constexpr int kTurns = 5000;

wire::Frames text_message(const std::string& text) {
  return {wire::Frame::own(text)};
}

/// A ROUTER and one peer of it, with room for few messages between them.
struct Bench {
  Bench() : router(context, zmq::socket_type::router), peer(context, zmq::socket_type::dealer) {
    router.set(zmq::sockopt::sndhwm, 2);
    router.set(zmq::sockopt::router_mandatory, 1);
    router.set(zmq::sockopt::linger, 0);
    peer.set(zmq::sockopt::rcvhwm, 2);
    peer.set(zmq::sockopt::linger, 0);
    router.bind("inproc://slow-peers");
    peer.connect("inproc://slow-peers");
    peer.send(zmq::str_buffer("hello"), zmq::send_flags::none);
    Parts parts;
    REQUIRE(receive_parts(router, parts) == ReceiveOutcome::kMessage);
    REQUIRE(connection_of(*parts[0], connection));
  }
  /// What the owner of the router does between two retries.
  void poll() {
    zmq_pollitem_t item{router.handle(), 0, ZMQ_POLLIN, 0};
    zmq_poll(&item, 1, 2);
  }
  /// The next message at the peer; "-" where none has come.
  std::string next() {
    Parts parts;
    if (receive_parts(peer, parts) != ReceiveOutcome::kMessage) return "-";
    return parts[0]->to_string();
  }

  zmq::context_t context;
  zmq::socket_t router;
  zmq::socket_t peer;
  ConnectionId connection;
};

}  // namespace

TEST_SUITE("core/transport/slow_peers") {
  TEST_CASE("what has no room waits, and comes in order once it has") {
    Bench bench;
    SlowPeers peers(bench.router);
    constexpr int kMessages = 20;
    for (int i = 0; i < kMessages; ++i) peers.send(bench.connection, text_message(std::to_string(i)));
    CHECK_FALSE(peers.empty());
    int came = 0;
    for (int turn = 0; turn < kTurns && came < kMessages; ++turn) {
      for (std::string text = bench.next(); text != "-"; text = bench.next())
        REQUIRE(text == std::to_string(came++));
      bench.poll();
      peers.retry();
    }
    CHECK(came == kMessages);
    CHECK(peers.empty());
  }

  TEST_CASE("beyond the limit messages are dropped, and those before it are not") {
    Bench bench;
    SlowPeers peers(bench.router);
    constexpr int kMessages = 200;
    for (int i = 0; i < kMessages; ++i) peers.send(bench.connection, text_message(std::to_string(i)));
    int came = 0;
    for (int turn = 0; turn < kTurns && !peers.empty(); ++turn) {
      for (std::string text = bench.next(); text != "-"; text = bench.next())
        REQUIRE(text == std::to_string(came++));
      bench.poll();
      peers.retry();
    }
    for (std::string text = bench.next(); text != "-"; text = bench.next())
      REQUIRE(text == std::to_string(came++));
    CHECK(came >= static_cast<int>(SlowPeers::kMaxWaiting));
    CHECK(came < kMessages);
  }

  TEST_CASE("what goes to a connection that nobody has is lost, and what waits for one that ended") {
    Bench bench;
    SlowPeers peers(bench.router);
    peers.send({bench.connection.value + 1}, text_message("to nobody"));
    CHECK(peers.empty());
    for (int i = 0; i < 20; ++i) peers.send(bench.connection, text_message("late"));
    REQUIRE_FALSE(peers.empty());
    bench.peer.close();
    for (int turn = 0; turn < kTurns && !peers.empty(); ++turn) {
      bench.poll();
      peers.retry();
    }
    CHECK(peers.empty());
  }
}

}  // namespace tandem::transport_detail
