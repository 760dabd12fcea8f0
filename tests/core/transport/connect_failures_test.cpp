#include "tandem/core/transport/connect_failures_detail.h"

#include <string>
#include <zmq.hpp>

#include "support/test.h"

namespace tandem::transport_detail {
namespace {

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

/// The failures of a client of "tcp://aggregator.example:5555", one of whose addresses is 192.0.2.1.
struct Bench {
  explicit Bench(bool insecure = false)
      : options{.endpoint = "tcp://aggregator.example:5555", .insecure = insecure, .insecure_name = "cam-1"},
        failures(options, {"aggregator.example", "5555"}) {
    options.keys.public_key = "THE-KEY";
  }
  ZmqClientOptions options;
  ConnectFailures failures;
  const TcpEndpoint address{"192.0.2.1", "5555"};
};

}  // namespace

TEST_SUITE("core/transport/connect_failures") {
  TEST_CASE("each failure says what to look at, and only the server's no is a refusal") {
    const Bench bench;
    const std::string where = "tcp://aggregator.example:5555 (192.0.2.1:5555)";
    const auto nobody = bench.failures.nobody_there(bench.address);
    CHECK(nobody.reason ==
          "cannot connect to " + where + ": nobody listens there, or the host is unknown or unreachable");
    CHECK(nobody.unreachable);
    CHECK_FALSE(nobody.refused);
    const auto silent = bench.failures.no_answer(bench.address, false);
    CHECK(silent.reason == "no answer from " + where + " in time");
    CHECK(silent.unreachable);
    CHECK(
        contains(bench.failures.no_answer(bench.address, true).reason, "the aggregator behind a forwarder"));
    const auto refused = bench.failures.not_let_in(bench.address, 400);
    CHECK(refused.reason ==
          "the server at " + where + " refused this device's key THE-KEY; add it to its device list");
    CHECK(refused.refused);
    CHECK_FALSE(refused.unreachable);
    const auto unchecked = bench.failures.not_let_in(bench.address, 500);
    CHECK(contains(unchecked.reason, "could not check this device's key (status 500)"));
    CHECK_FALSE(unchecked.refused);
    const auto forwarder = bench.failures.hung_up(bench.address, false);
    CHECK(contains(forwarder.reason, "accepted and then closed without an answer"));
    CHECK(forwarder.unreachable);
    const auto wrong_key = bench.failures.hung_up(bench.address, true);
    CHECK(contains(wrong_key.reason, "its key is not the one this device is pinned to"));
    CHECK_FALSE(wrong_key.unreachable);
  }

  TEST_CASE("who encrypts and who does not is told by what this client was started with") {
    constexpr uint32_t kMismatch = ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH;
    const Bench secure, insecure{true};
    CHECK(contains(secure.failures.broke_protocol(secure.address, kMismatch).reason,
                   "does not encrypt (--insecure) and this device demands it"));
    CHECK(contains(insecure.failures.broke_protocol(insecure.address, kMismatch).reason,
                   "demands encryption and this device was started without (--insecure)"));
    CHECK(contains(secure.failures.broke_protocol(secure.address, 7).reason, "protocol (code 7)"));
    CHECK(contains(insecure.failures.hung_up(insecure.address, true).reason, "it demands encryption"));
    CHECK(contains(insecure.failures.not_let_in(insecure.address, 400).reason, "name \"cam-1\""));
  }

  TEST_CASE("an endpoint that is an address is named once") {
    const ZmqClientOptions options{.endpoint = "tcp://192.0.2.1:5555"};
    const ConnectFailures failures(options, {"192.0.2.1", "5555"});
    CHECK(failures.no_answer({"192.0.2.1", "5555"}, false).reason ==
          "no answer from tcp://192.0.2.1:5555 in time");
  }

  TEST_CASE("a cycle's failures become one: unreachable if any was, refused if the last was") {
    Bench bench;
    CHECK_FALSE(bench.failures.take());
    bench.failures.add({.reason = "first", .unreachable = true});
    CHECK_FALSE(bench.failures.is_final());
    bench.failures.add({.refused = true, .reason = "second"});
    CHECK(bench.failures.is_final());
    const auto failure = bench.failures.take();
    REQUIRE(failure);
    CHECK(failure->reason == "first; second");
    CHECK(failure->unreachable);
    CHECK(failure->refused);
    CHECK_FALSE(bench.failures.is_final());
    CHECK_FALSE(bench.failures.take());
  }
}

}  // namespace tandem::transport_detail
