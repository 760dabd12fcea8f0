#include "tandem/core/transport/zmq_client.h"

#include <chrono>
#include <memory>
#include <random>
#include <set>

#include "core/transport/peers.h"
#include "support/tcp_relay.h"
#include "support/test.h"

namespace tandem {
namespace {

using namespace test;  // NOLINT: the helpers of this test

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

std::string random_bytes(size_t size) {
  std::random_device device;
  std::string bytes(size, '\0');
  for (char& byte : bytes) byte = static_cast<char>(device());
  return bytes;
}

/// An endpoint where nobody listens: a server had it a moment ago.
std::string abandoned_endpoint(const Fleet& fleet) {
  const auto server = start_server(fleet.server_options(), [](ReceivedFrames) {});
  return server.value()->endpoint();
}

/// What a relay between the two saw of one message each way.
std::string overheard(const ZmqServerOptions& server_options, ZmqClientOptions client_options,
                      const std::string& marker) {
  ServerInbox inbox;
  const auto server = start_server(server_options, inbox.handler());
  REQUIRE(server);
  TcpRelay relay({.target_port = port_of((*server)->endpoint()), .record = true});
  client_options.endpoint = relay.endpoint();
  ClientEvents events;
  const auto client = start_client(client_options, events.handler());
  REQUIRE(client);
  REQUIRE(events.wait_for<Connected>());
  (*client)->send({wire::Frame::own("up"), wire::Frame::own(marker)});
  const auto message = inbox.next();
  REQUIRE(message);
  CHECK(text_of(message->frames.at(1)) == marker);
  (*server)->send(message->connection, {wire::Frame::own("down"), wire::Frame::own(marker)});
  REQUIRE(events.wait_for<Received>());
  CHECK(text_of(events.get<Received>().frames.at(1)) == marker);
  return relay.recorded();
}

size_t occurrences(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

}  // namespace

TEST_SUITE("core/transport/zmq_client") {
  TEST_CASE("a server with another key than the pinned one gets nothing, and the reason is told") {
    const Fleet fleet;
    ServerInbox inbox;
    const auto server = start_server(fleet.server_options(), inbox.handler());
    REQUIRE(server);
    auto options = fleet.client_options((*server)->endpoint());
    options.server_public_key = generate_key_pair().public_key;
    ClientEvents events;
    const auto client = start_client(options, events.handler());
    REQUIRE(client);
    CHECK((*client)->send(text_message("secret")));
    // Again and again: the client does not give up.
    REQUIRE(events.wait_for<HandshakeFailed>(3));
    const auto failure = events.get<HandshakeFailed>();
    CHECK_FALSE(failure.refused);
    CHECK_FALSE(failure.unreachable);
    CHECK(failure.reason ==
          "the server at " + options.endpoint +
              " did not complete the handshake: its key is not the one this device is pinned "
              "to, or it does not speak CURVE");
    CHECK(events.count<Connected>() == 0);
    CHECK(inbox.size() == 0);
  }

  TEST_CASE("a server without encryption gets nothing from a client with") {
    const Fleet fleet;
    ServerInbox inbox;
    const auto server = start_server(insecure_server(), inbox.handler());
    REQUIRE(server);
    ClientEvents events;
    const auto client = start_client(fleet.client_options((*server)->endpoint()), events.handler());
    REQUIRE(client);
    REQUIRE(events.wait_for<HandshakeFailed>(3));
    CHECK_FALSE(events.get<HandshakeFailed>().refused);
    // Which of the two libzmq reports depends on which end hangs up first.
    const std::string reason = events.get<HandshakeFailed>().reason;
    CAPTURE(reason);
    const bool known =
        contains(reason, "does not encrypt (--insecure)") || contains(reason, "does not speak CURVE");
    CHECK(known);
    CHECK(events.count<Connected>() == 0);
    CHECK(inbox.size() == 0);
  }

  TEST_CASE("a server with encryption lets no client in without") {
    const Fleet fleet;
    ServerInbox inbox;
    const auto server = start_server(fleet.server_options(), inbox.handler());
    REQUIRE(server);
    ClientEvents events;
    const auto client = start_client(insecure_client((*server)->endpoint(), "cam-1"), events.handler());
    REQUIRE(client);
    REQUIRE(events.wait_for<HandshakeFailed>(3));
    CHECK_FALSE(events.get<HandshakeFailed>().refused);
    CHECK(contains(events.get<HandshakeFailed>().reason, "demands encryption"));
    CHECK(inbox.size() == 0);
  }

  TEST_CASE("where nobody listens the client says so and goes on trying") {
    const Fleet fleet;
    ClientEvents events;
    const auto options = fleet.client_options(abandoned_endpoint(fleet));
    const auto client = start_client(options, events.handler());
    REQUIRE(client);
    REQUIRE(events.wait_for<HandshakeFailed>(3));
    CHECK(events.get<HandshakeFailed>().unreachable);
    CHECK(events.get<HandshakeFailed>().reason == "cannot connect to " + options.endpoint +
                                                      ": nobody listens there, or the host is unknown or "
                                                      "unreachable");
  }

  TEST_CASE("a forwarder without its server is waited for, and no key is blamed") {
    const Fleet fleet;
    const auto server = start_server(fleet.server_options(), [](ReceivedFrames) {});
    REQUIRE(server);
    TcpRelay relay({.target_port = port_of((*server)->endpoint())});
    relay.cut(true);
    ClientEvents events;
    const auto client = start_client(fleet.client_options(relay.endpoint()), events.handler());
    REQUIRE(client);
    REQUIRE(events.wait_for<HandshakeFailed>(5));
    for (size_t i = 0; i < 5; ++i) {
      const auto failure = events.get<HandshakeFailed>(i);
      CHECK(failure.unreachable);
      CHECK_FALSE(failure.refused);
      CHECK(failure.reason ==
            "the connection to " + relay.endpoint() +
                " is accepted and then closed without an answer: a forwarder or proxy whose "
                "aggregator is not up yet, or no aggregator at all");
    }
    relay.cut(false);
    CHECK(events.wait_for<Connected>());
  }

  TEST_CASE("start names what is wrong with its options") {
    const Fleet fleet;
    const auto message_for = [&](auto change) {
      auto options = fleet.client_options("tcp://127.0.0.1:5555");
      change(options);
      const auto client = start_client(options, [](ClientEvent) {});
      REQUIRE_FALSE(client);
      CHECK(client.error().code == ErrorCode::kInvalidArgument);
      return client.error().message;
    };
    for (const char* endpoint : {"", "host:1", "tcp://host", "tcp://host:*", "tcp://host:0", "tcp://:1"}) {
      CAPTURE(endpoint);
      const auto text = message_for([&](auto& o) { o.endpoint = endpoint; });
      CHECK(contains(text, std::string("endpoint \"") + endpoint + "\" is not of the form"));
    }
    CHECK(contains(message_for([](auto& o) { o.server_public_key = ""; }), "server's public key"));
    CHECK(contains(message_for([](auto& o) { o.keys = KeyPair(); }), "device's keys"));
    CHECK(contains(message_for([](auto& o) {
                     o.insecure = true;
                     o.insecure_name = "x";
                     o.endpoint = "tcp://192.0.2.1:1";
                   }),
                   "connects to loopback only"));
    CHECK(contains(message_for([](auto& o) { o.insecure = true; }), "insecure_name"));
  }

  TEST_CASE("after a restart of the server the client is connected again and nothing stale is sent") {
    const Fleet fleet;
    ServerInbox first_inbox;
    auto first = start_server(fleet.server_options(), first_inbox.handler());
    REQUIRE(first);
    const std::string endpoint = (*first)->endpoint();
    ClientEvents events;
    const auto client = start_client(fleet.client_options(endpoint), events.handler());
    REQUIRE(events.wait_for<Connected>());
    first->reset();
    REQUIRE(events.wait_for<Disconnected>());
    CHECK((*client)->send(text_message("stale")));
    REQUIRE(events.wait_for<HandshakeFailed>());  // it has tried in between, so the message was seen

    ServerInbox second_inbox;
    const auto second = start_server(fleet.server_options(endpoint), second_inbox.handler());
    REQUIRE(second);
    REQUIRE(events.wait_for<Connected>(2));
    CHECK((*client)->send(text_message("fresh")));
    const auto message = second_inbox.next();
    REQUIRE(message);
    CHECK(text_of(message->frames.at(0)) == "fresh");
  }

  TEST_CASE("a refused device gets in once it is listed") {
    const Fleet fleet;
    auto options = fleet.server_options();
    options.devices.clear();
    auto strict = start_server(options, [](ReceivedFrames) {});
    REQUIRE(strict);
    const std::string endpoint = (*strict)->endpoint();
    ClientEvents events;
    const auto client = start_client(fleet.client_options(endpoint), events.handler());
    REQUIRE(events.wait_for<HandshakeFailed>());
    CHECK(events.get<HandshakeFailed>().refused);
    strict->reset();
    const auto open = start_server(fleet.server_options(endpoint), [](ReceivedFrames) {});
    REQUIRE(open);
    CHECK(events.wait_for<Connected>());
  }

  TEST_CASE("a broken network is survived") {
    const Fleet fleet;
    ServerInbox inbox;
    const auto server = start_server(fleet.server_options(), inbox.handler());
    REQUIRE(server);
    TcpRelay relay({.target_port = port_of((*server)->endpoint())});
    ClientEvents events;
    const auto client = start_client(fleet.client_options(relay.endpoint()), events.handler());
    std::set<ConnectionId> connections;
    for (size_t i = 1; i <= 5; ++i) {
      REQUIRE(events.wait_for<Connected>(i));
      (*client)->send(text_message("hello"));
      const auto message = inbox.next();
      REQUIRE(message);
      connections.insert(message->connection);
      relay.drop_connections();
      REQUIRE(events.wait_for<Disconnected>(i));
    }
    CHECK(connections.size() == 5);
  }

  TEST_CASE("an outage is survived, over a link with delay and jitter, and messages keep their order") {
    const Fleet fleet;
    ServerInbox inbox;
    const auto server = start_server(fleet.server_options(), inbox.handler());
    REQUIRE(server);
    TcpRelay relay(
        {.target_port = port_of((*server)->endpoint()), .delay = milliseconds(2), .jitter = milliseconds(5)});
    ClientEvents events;
    const auto client = start_client(fleet.client_options(relay.endpoint()), events.handler());
    for (size_t outage = 1; outage <= 3; ++outage) {
      REQUIRE(events.wait_for<Connected>(outage));
      for (int i = 0; i < 50; ++i) {
        (*client)->send(text_message(std::to_string(i)));
        const auto message = inbox.next();
        REQUIRE(message);
        CHECK(text_of(message->frames.at(0)) == std::to_string(i));
      }
      const int connections = relay.connections();
      relay.cut(true);
      REQUIRE(events.wait_for<Disconnected>(outage));
      REQUIRE(events.wait_for<HandshakeFailed>(3 * outage));
      CHECK(relay.connections() == connections);
      relay.cut(false);
    }
    CHECK(events.wait_for<Connected>(4));
  }

  TEST_CASE("keepalives are sent while the owner is silent") {
    const Fleet fleet;
    ServerInbox inbox;
    const auto server = start_server(fleet.server_options(), inbox.handler());
    REQUIRE(server);
    const wire::Frames keepalive = {wire::Frame::own("alive"), wire::Frame::own("and well")};
    const auto client = start_client(fleet.client_options((*server)->endpoint()), [](ClientEvent) {},
                                     {.message = keepalive, .interval = milliseconds(20)});
    REQUIRE(client);
    for (int i = 0; i < 3; ++i) {
      const auto message = inbox.next();
      REQUIRE(message);
      REQUIRE(message->frames.size() == 2);
      CHECK(text_of(message->frames[0]) == "alive");
      CHECK(text_of(message->frames[1]) == "and well");
    }
  }

  TEST_CASE("a client that is cut loses its connection and comes back") {
    const Fleet fleet;
    ServerInbox inbox;
    const auto server = start_server(fleet.server_options(), inbox.handler());
    REQUIRE(server);
    ClientEvents events;
    const auto client = start_client(fleet.client_options((*server)->endpoint()), events.handler());
    REQUIRE(events.wait_for<Connected>());
    (*client)->cut();
    REQUIRE(events.wait_for<Connected>(2));
    CHECK(events.order() == "cdc");
    (*client)->send(text_message("back"));
    const auto message = inbox.next();
    REQUIRE(message);
    CHECK(text_of(message->frames.at(0)) == "back");
  }

  TEST_CASE("stop is quick where nobody listens, and send says that it is over") {
    const Fleet fleet;
    const auto client = start_client(fleet.client_options(abandoned_endpoint(fleet)), [](ClientEvent) {});
    REQUIRE(client);
    for (int i = 0; i < 1000; ++i) CHECK((*client)->send(text_message("unsent")));
    const auto start = std::chrono::steady_clock::now();
    (*client)->stop(milliseconds(5000));
    CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(2));
    CHECK_FALSE((*client)->send(text_message("late")));
    (*client)->stop(milliseconds(5000));
  }

  TEST_CASE("stop within its linger sends what is queued") {
    // No pings: a connection closed while the other end sends is reset, and what it has not read is lost.
    const milliseconds quiet(60000);
    const Fleet fleet;
    auto server_options = fleet.server_options();
    server_options.heartbeat_interval = quiet;
    ServerInbox inbox;
    const auto server = start_server(server_options, inbox.handler());
    REQUIRE(server);
    ClientEvents events;
    auto client_options = fleet.client_options((*server)->endpoint());
    client_options.heartbeat_interval = quiet;
    const auto client = start_client(client_options, events.handler());
    REQUIRE(events.wait_for<Connected>());
    for (int i = 0; i < 40; ++i)
      (*client)->send(text_message(std::string(500000, static_cast<char>('0' + i))));
    (*client)->stop(milliseconds(15000));
    for (int i = 0; i < 40; ++i) {
      CAPTURE(i);
      const auto message = inbox.next();
      REQUIRE(message);
      CHECK(text_of(message->frames.at(0))[0] == static_cast<char>('0' + i));
    }
  }

  TEST_CASE("a tensor of 50 MB arrives intact, is lent while it is sent and released afterwards") {
    const Fleet fleet;
    ServerInbox inbox;
    const auto server = start_server(fleet.server_options(), inbox.handler());
    REQUIRE(server);
    TcpRelay relay({.target_port = port_of((*server)->endpoint())});
    ClientEvents events;
    const auto client = start_client(fleet.client_options(relay.endpoint()), events.handler());
    REQUIRE(events.wait_for<Connected>());

    const at::Tensor values = at::arange(12'500'000, at::kFloat);
    // The copy of the tensor that the frame keeps; when the frame goes, so does it.
    auto owner = std::make_shared<at::Tensor>(values.clone());
    const std::weak_ptr<at::Tensor> lent = owner;
    relay.set_frozen(true);
    (*client)->send(
        {wire::Frame::own("header"), wire::Frame::borrow(owner, owner->data_ptr(), owner->nbytes())});
    owner.reset();
    CHECK_FALSE(lent.expired());  // nobody else has the bytes: they were not copied
    relay.set_frozen(false);

    const auto message = inbox.next();
    REQUIRE(message);
    REQUIRE(message->frames.size() == 2);
    REQUIRE(message->frames[1].size() == values.nbytes());
    CHECK(std::memcmp(message->frames[1].data(), values.data_ptr(), values.nbytes()) == 0);
    // The bytes outlive the message they came in, at the same address.
    const wire::Frame kept = message->frames[1];
    CHECK(kept.data() == message->frames[1].data());
    (*client)->stop(milliseconds(0));
    CHECK(lent.expired());
  }

  TEST_CASE("nothing that is sent can be read on the way, unless encryption is off") {
    const Fleet fleet;
    const std::string marker = random_bytes(64);
    const std::string encrypted = overheard(fleet.server_options(), fleet.client_options(""), marker);
    CHECK(encrypted.size() > 2 * marker.size());
    CHECK(occurrences(encrypted, marker) == 0);
    const std::string open = overheard(insecure_server(), insecure_client("", "cam-1"), marker);
    CHECK(occurrences(open, marker) == 2);
  }
}

}  // namespace tandem
