#include <utility>
#include <zmq.hpp>

#include "tandem/core/transport/connect_failures_detail.h"

namespace tandem::transport_detail {
namespace {

constexpr uint32_t kZapRefused = 400;

}  // namespace

ConnectFailures::ConnectFailures(const ZmqClientOptions& options, const TcpEndpoint& server)
    : options_(options), is_address_(server.is_address()) {}

/// The server as the options have it, and the address where that is another text.
std::string ConnectFailures::where(const TcpEndpoint& address) const {
  if (is_address_) return options_.endpoint;
  return options_.endpoint + " (" + address.host_and_port() + ")";
}

ConnectFailures::Failure ConnectFailures::nobody_there(const TcpEndpoint& address) const {
  return {.reason = "cannot connect to " + where(address) +
                    ": nobody listens there, or the host is unknown or unreachable",
          .unreachable = true};
}

ConnectFailures::Failure ConnectFailures::no_answer(const TcpEndpoint& address, bool tcp_connected) const {
  const char* why = tcp_connected ? ": the connection is accepted and then nothing is said; the aggregator "
                                    "behind a forwarder may be down, or it is very busy"
                                  : "";
  return {.reason = "no answer from " + where(address) + " in time" + why, .unreachable = true};
}

ConnectFailures::Failure ConnectFailures::not_let_in(const TcpEndpoint& address, uint32_t status) const {
  if (status != kZapRefused)
    return {.reason = "the server at " + where(address) + " could not check this device's key (status " +
                      std::to_string(status) + ")"};
  const std::string who = options_.insecure
                              ? "name \"" + options_.insecure_name + "\""
                              : "key " + options_.keys.public_key + "; add it to its device list";
  return {.refused = true, .reason = "the server at " + where(address) + " refused this device's " + who};
}

ConnectFailures::Failure ConnectFailures::broke_protocol(const TcpEndpoint& address, uint32_t reason) const {
  if (reason != ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH)
    return {.reason = "the server at " + where(address) + " broke the handshake's protocol (code " +
                      std::to_string(reason) + ")"};
  const char* mismatch = options_.insecure
                             ? " demands encryption and this device was started without (--insecure)"
                             : " does not encrypt (--insecure) and this device demands it";
  return {.reason = "the server at " + where(address) + mismatch};
}

ConnectFailures::Failure ConnectFailures::hung_up(const TcpEndpoint& address, bool speaks_zmtp) const {
  if (!speaks_zmtp)
    return {.reason = "the connection to " + where(address) +
                      " is accepted and then closed without an answer: a forwarder or proxy whose "
                      "aggregator is not up yet, or no aggregator at all",
            .unreachable = true};
  const char* cause = options_.insecure
                          ? ": it demands encryption, or it is no Tandem server"
                          : ": its key is not the one this device is pinned to, or it does not speak CURVE";
  return {.reason = "the server at " + where(address) + " did not complete the handshake" + cause};
}

void ConnectFailures::add(Failure failure) {
  if (!failed_) {
    failed_ = std::move(failure);
    return;
  }
  failed_->reason += "; " + failure.reason;
  failed_->refused = failure.refused;
  failed_->unreachable = failed_->unreachable || failure.unreachable;
}

std::optional<ConnectFailures::Failure> ConnectFailures::take() {
  return std::exchange(failed_, std::nullopt);
}

}  // namespace tandem::transport_detail
