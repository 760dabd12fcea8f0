#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <unordered_map>

/// Not installed; for Gatekeeper and its tests.
namespace tandem::transport_detail {

/// Words for handshakes that fail because of how the peer is configured, such as a device that is pinned to
/// another server key. Such a device tries again and again and can say so only in its own log. Each address
/// gets a line at its first failure and then at most one a minute; at most 1024 addresses do. Not
/// thread-safe.
class HandshakeFailures {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;
  static constexpr std::chrono::seconds kPause{60};
  static constexpr size_t kMaxAddresses = 1024;

  /// `encrypted`: the server demands CURVE.
  explicit HandshakeFailures(bool encrypted) : encrypted_(encrypted) {}

  /// A handshake of a peer at `address` failed with this code of libzmq's (ZMQ_PROTOCOL_ERROR_...). Returns
  /// the line to log; empty when nothing is to be said.
  std::string add(const std::string& address, int code, TimePoint now);

 private:
  struct Failures {
    uint64_t count = 0;
    TimePoint said_at;
  };

  const char* cause_of(int code) const;

  const bool encrypted_;
  std::unordered_map<std::string, Failures> failures_;
};

}  // namespace tandem::transport_detail
