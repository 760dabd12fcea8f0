#pragma once

#include <chrono>
#include <cstdint>
#include <zmq.hpp>

#include "tandem/core/base/endpoint.h"
#include "tandem/core/transport/socket_monitor_detail.h"
#include "tandem/core/transport/zmq_client.h"

/// Not installed; for ZmqClient and its tests.
namespace tandem::transport_detail {

/// One attempt of a client to connect, and the connection it becomes.
///
/// A fresh socket for each, because libzmq 4.3.4 gives up for good after a refused or mismatched
/// handshake, and because a fresh socket holds no message of the connection before. Owned by one thread.
class ConnectionAttempt {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  /// Begins to connect to `server`, one of the addresses of options.endpoint. `number`: of no other attempt
  /// in the context, which must outlive this one. Throws zmq::error_t.
  ConnectionAttempt(zmq::context_t& context, const ZmqClientOptions& options, TcpEndpoint server,
                    uint64_t number);

  zmq::socket_t& socket() { return socket_; }
  SocketMonitor& monitor() { return monitor_; }

  const TcpEndpoint address;
  bool tcp_connected = false;
  bool ready = false;  ///< the handshake is complete
  /// When it has failed, unless it is ready by then.
  TimePoint deadline;

 private:
  zmq::socket_t socket_;
  SocketMonitor monitor_;
};

}  // namespace tandem::transport_detail
