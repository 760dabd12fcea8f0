#include <chrono>
#include <string>
#include <zmq.hpp>

#include "support/test.h"
#include "tandem/core/transport/handshake_failures_detail.h"

namespace tandem::transport_detail {

TEST_SUITE("core/transport/handshake_failures") {
  TEST_CASE("an address is named at its first failure, then once a minute with the count") {
    HandshakeFailures failures(true);
    const HandshakeFailures::TimePoint start{};
    const auto at = [&](int seconds) {
      return failures.add("192.0.2.1", ZMQ_PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC,
                          start + std::chrono::seconds(seconds));
    };
    CHECK(at(0).starts_with(
        "the handshake with a peer at 192.0.2.1 failed: a device there is pinned to another "
        "server key than this aggregator has"));
    CHECK(at(1).empty());
    CHECK(at(59).empty());
    CHECK(at(60).starts_with("the handshake with a peer at 192.0.2.1 failed (4 times so far): "));
    CHECK(at(61).empty());
    CHECK_FALSE(failures.add("192.0.2.2", ZMQ_PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC, start).empty());
  }

  TEST_CASE("both sides of a missing encryption are told apart, and a scan says nothing") {
    const auto line = [](bool encrypted, int code) {
      return HandshakeFailures(encrypted).add("a", code, {});
    };
    CHECK(line(true, ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH).find("without encryption") !=
          std::string::npos);
    CHECK(line(false, ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH).find("it demands encryption") !=
          std::string::npos);
    CHECK(line(true, ZMQ_PROTOCOL_ERROR_ZMTP_UNSPECIFIED).empty());
  }

  TEST_CASE("many addresses fill neither the memory nor the log") {
    HandshakeFailures failures(true);
    size_t lines = 0;
    for (size_t i = 0; i < 2 * HandshakeFailures::kMaxAddresses; ++i)
      lines += failures.add(std::to_string(i), ZMQ_PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC, {}).empty() ? 0 : 1;
    CHECK(lines == HandshakeFailures::kMaxAddresses);
  }
}

}  // namespace tandem::transport_detail
