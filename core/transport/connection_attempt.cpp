#include <string>
#include <utility>

#include "tandem/core/transport/connection_attempt_detail.h"
#include "tandem/core/transport/zmq_detail.h"

namespace tandem::transport_detail {
namespace {

// For the TCP connection; only a backstop, libzmq watches it itself.
constexpr std::chrono::milliseconds kConnectBackstop = kConnectLimit + std::chrono::milliseconds(1000);

constexpr int kWatchedEvents = ZMQ_EVENT_CONNECTED | ZMQ_EVENT_CLOSED | ZMQ_EVENT_CONNECT_RETRIED |
                               ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_HANDSHAKE_SUCCEEDED |
                               ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL |
                               ZMQ_EVENT_HANDSHAKE_FAILED_AUTH;

}  // namespace

ConnectionAttempt::ConnectionAttempt(zmq::context_t& context, const ZmqClientOptions& options,
                                     TcpEndpoint server, uint64_t number)
    : address(std::move(server)),
      deadline(std::chrono::steady_clock::now() + kConnectBackstop),
      socket_(context, zmq::socket_type::dealer),
      monitor_(context, socket_, "monitor-" + std::to_string(number), kWatchedEvents) {
  configure_client_socket(socket_, options, address.is_ipv6());
  socket_.connect(address.text());
}

}  // namespace tandem::transport_detail
