// The transports that disturb messages, over real sockets, on either side.
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "tandem/core/transport/faulty_client.h"
#include "tandem/core/transport/faulty_server.h"
//
#include "core/transport/peers.h"
#include "support/test.h"

namespace tandem {
namespace {

using namespace test;  // NOLINT: the helpers of this test

constexpr int kMessages = 2000;
const FaultOptions kAll{
    .drop = 0.05, .duplicate = 0.05, .reorder = 0.05, .corrupt = 0.05, .delay = milliseconds(5)};

/// A client with faults that connects.
std::unique_ptr<FaultyClient> start_faulty(const ZmqClientOptions& options, const FaultOptions& faults,
                                           ClientEvents& events, Keepalive keepalive = {}) {
  auto client = std::make_unique<FaultyClient>(ZmqClient::make(options).value(), faults, "cam-1");
  client->start(events.handler(), std::move(keepalive)).value();
  return client;
}

/// A server with faults that listens, and where.
struct Faulty {
  Faulty(const ZmqServerOptions& options, const FaultOptions& faults, ServerInbox& inbox) {
    auto made = ZmqServer::make(options).value();
    const ZmqServer& inner = *made;
    server = std::make_unique<FaultyServer>(std::move(made), faults);
    server->start(inbox.handler()).value();
    endpoint = inner.endpoint();
  }
  std::unique_ptr<FaultyServer> server;
  std::string endpoint;
};

const Keepalive kOften{.message = text_message("alive"), .interval = milliseconds(5)};

class CapturedLog {
 public:
  CapturedLog() : before_(spdlog::default_logger()) {
    spdlog::set_default_logger(std::make_shared<spdlog::logger>(
        "captured", std::make_shared<spdlog::sinks::ostream_sink_mt>(stream_)));
  }
  ~CapturedLog() { spdlog::set_default_logger(before_); }
  /// Only when whoever logs has stopped.
  std::string text() const { return stream_.str(); }

 private:
  std::ostringstream stream_;
  std::shared_ptr<spdlog::logger> before_;
};

void check_every_fault_happened(const FaultCounts& counts) {
  for (const uint64_t count :
       {counts.dropped, counts.duplicated, counts.delayed, counts.reordered, counts.corrupted})
    CHECK(count > 0);
}

}  // namespace

TEST_SUITE("core/transport/faulty_transport") {
  TEST_CASE("what a client's faults leave of its messages arrives, no more and no less") {
    const Fleet fleet;
    ServerInbox inbox;
    const auto server = start_server(fleet.server_options(), inbox.handler());
    REQUIRE(server);
    ClientEvents events;
    const CapturedLog log;
    const auto client = start_faulty(fleet.client_options((*server)->endpoint()), kAll, events);
    REQUIRE(events.wait_for<Connected>());
    for (int i = 0; i < kMessages; ++i) REQUIRE(client->send(text_message(std::to_string(i))));
    client->stop(kPatience);
    const FaultCounts counts = client->counts();
    check_every_fault_happened(counts);
    CHECK(counts.messages == kMessages);
    CHECK(counts.delivered == kMessages - counts.dropped + counts.duplicated);
    for (uint64_t i = 0; i < counts.delivered; ++i) REQUIRE(inbox.next());
    CHECK_FALSE(inbox.next(milliseconds(50)));
    CHECK(log.text().find("--fault: this run disturbs its own messages: drop=0.05,duplicate=0.05,"
                          "reorder=0.05,corrupt=0.05,delay=5ms (seed 1)") != std::string::npos);
    CHECK(log.text().find("--fault: " + counts.text()) != std::string::npos);
  }

  TEST_CASE("what a server's faults leave of its messages arrives, no more and no less") {
    const Fleet fleet;
    ServerInbox inbox;
    const CapturedLog log;
    const Faulty faulty(fleet.server_options(), kAll, inbox);
    const auto& server = faulty.server;
    ClientEvents events;
    const auto client = start_client(fleet.client_options(faulty.endpoint), events.handler());
    REQUIRE(client);
    REQUIRE(events.wait_for<Connected>());
    for (int i = 0; i < kMessages; ++i) REQUIRE((*client)->send(text_message(std::to_string(i))));
    (*client)->send(text_message("last"));
    std::set<std::string> up;
    ConnectionId connection;
    while (up.size() < kMessages * 9 / 10 || !up.contains("last")) {
      const auto message = inbox.next();
      REQUIRE(message);
      connection = message->connection;
      CHECK(message->client == ClientId{"cam-1"});
      up.insert(text_of(message->frames.at(0)));
      // It too may be lost: it is repeated until it comes.
      if (up.size() >= kMessages * 9 / 10) (*client)->send(text_message("last"));
    }
    const FaultCounts before = server->counts();
    CHECK(before.messages > kMessages);
    // One after another, so that nothing waits for a peer that does not read.
    size_t expected = 0;
    for (int i = 0; i < 200; ++i) {
      REQUIRE(server->send(connection, text_message(std::to_string(i))));
      if (i % 20 == 19) (void)events.wait_for<Received>(expected += 10);
    }
    server->stop(kPatience);
    const FaultCounts counts = server->counts();
    check_every_fault_happened(counts);
    CHECK(counts.delivered + counts.discarded == counts.messages - counts.dropped + counts.duplicated);
    REQUIRE(events.wait_for<Disconnected>());
    const size_t received = events.count<Received>();
    CHECK(received > 150);
    CHECK(received < 250);
    CHECK(log.text().find("--fault: " + counts.text()) != std::string::npos);
  }

  TEST_CASE("a client cuts its own connection at random moments and comes back") {
    const Fleet fleet;
    ServerInbox inbox;
    const auto server = start_server(fleet.server_options(), inbox.handler());
    REQUIRE(server);
    ClientEvents events;
    const auto client =
        start_faulty(fleet.client_options((*server)->endpoint()), {.disconnect = milliseconds(50)}, events);
    REQUIRE(events.wait_for<Connected>(4));
    client->stop(milliseconds(0));
    CHECK(client->counts().disconnected >= 3);
    CHECK(client->counts().disconnected == events.count<Disconnected>());
    CHECK(events.order().starts_with("cdcdcdc"));
  }

  TEST_CASE("a server cuts connections at random moments, and its clients come back") {
    const Fleet fleet;
    ServerInbox inbox;
    const Faulty faulty(fleet.server_options(), {.disconnect = milliseconds(50)}, inbox);
    const auto& server = faulty.server;
    ClientEvents events;
    const auto client = start_client(fleet.client_options(faulty.endpoint), events.handler(), kOften);
    REQUIRE(client);
    REQUIRE(events.wait_for<Connected>(4));
    REQUIRE(server->counts().disconnected >= 3);
    CHECK(events.order().starts_with("cdcdcdc"));
    std::set<uint64_t> connections;
    while (const auto message = inbox.next(milliseconds(0))) connections.insert(message->connection.value);
    CHECK(connections.size() >= 3);
  }

  TEST_CASE("a client of a server with faults loses its connection alone") {
    ServerInbox inbox;
    const Faulty faulty(insecure_server(), {.disconnect = milliseconds(200)}, inbox);
    ClientEvents talking, silent;
    const auto quiet = start_client(insecure_client(faulty.endpoint, "silent"), silent.handler());
    const auto loud = start_client(insecure_client(faulty.endpoint, "talking"), talking.handler(), kOften);
    REQUIRE(silent.wait_for<Connected>());
    REQUIRE(talking.wait_for<Disconnected>(2));
    // The server has never heard of it, and so has nothing to cut.
    CHECK(silent.count<Disconnected>() == 0);
  }

  TEST_CASE("a client's keepalives pass its faults too") {
    ServerInbox inbox;
    const auto server = start_server(insecure_server(), inbox.handler());
    REQUIRE(server);
    ClientEvents events;
    const auto client =
        start_faulty(insecure_client((*server)->endpoint(), "cam-1"), {.duplicate = 0.9}, events, kOften);
    for (int i = 0; i < 40; ++i) REQUIRE(inbox.next());
    client->stop(milliseconds(0));
    CHECK(client->counts().duplicated > 0);
    CHECK(client->counts().messages < client->counts().delivered);
  }

  TEST_CASE("without faults a transport is left as it is") {
    auto client = ZmqClient::make(insecure_client("tcp://127.0.0.1:1", "cam-1")).value();
    const ClientConnection* made = client.get();
    CHECK(with_faults(std::move(client), {}, "cam-1").get() == made);
    auto server = ZmqServer::make(insecure_server()).value();
    const ServerConnections* other = server.get();
    CHECK(with_faults(std::move(server), {}).get() == other);
  }

  TEST_CASE("a server with faults catches up, and has nothing to catch up with before start or after stop") {
    FaultyServer unstarted(ZmqServer::make(insecure_server()).value(), {.drop = 0.5});
    unstarted.catch_up();
    ServerInbox inbox;
    const Faulty faulty(insecure_server(), {.duplicate = 0.5}, inbox);
    ClientEvents events;
    const auto client = start_client(insecure_client(faulty.endpoint, "cam-1"), events.handler(), kOften);
    REQUIRE(inbox.next());
    for (int i = 0; i < 20; ++i) faulty.server->catch_up();
    faulty.server->stop(milliseconds(0));
    faulty.server->catch_up();
  }

  TEST_CASE("a disturbed message keeps its sender's address") {
    ServerInbox inbox;
    const Faulty faulty(insecure_server(), {.delay = milliseconds(1)}, inbox);
    ClientEvents events;
    const auto client = start_client(insecure_client(faulty.endpoint, "cam-1"), events.handler(), kOften);
    const auto message = inbox.next();
    REQUIRE(message);
    CHECK(message->address == "127.0.0.1");
  }
}

}  // namespace tandem
