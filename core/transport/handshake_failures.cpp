#include <zmq.hpp>

#include "tandem/core/transport/handshake_failures_detail.h"

namespace tandem::transport_detail {

/// Null for what says nothing about a device, such as a port scan.
const char* HandshakeFailures::cause_of(int code) const {
  switch (code) {
    case ZMQ_PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC:
      return "a device there is pinned to another server key than this aggregator has; compare the "
             "server-key in its "
             "edge.toml with the public key in --key-file, and give it the kit of this fleet";
    case ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH:
      return encrypted_ ? "it was started without encryption (--insecure), which this aggregator demands"
                        : "it demands encryption, and this aggregator was started without (--insecure)";
    default:
      return nullptr;
  }
}

std::string HandshakeFailures::add(const std::string& address, int code, TimePoint now) {
  const char* cause = cause_of(code);
  if (cause == nullptr) return "";
  if (failures_.size() >= kMaxAddresses && !failures_.contains(address)) return "";
  Failures& failures = failures_[address];
  ++failures.count;
  if (failures.count > 1 && now - failures.said_at < kPause) return "";
  failures.said_at = now;
  const std::string count =
      failures.count == 1 ? "" : " (" + std::to_string(failures.count) + " times so far)";
  return "the handshake with a peer at " + address + " failed" + count + ": " + cause;
}

}  // namespace tandem::transport_detail
