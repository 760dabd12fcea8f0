#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <unordered_map>

#include "tandem/core/base/ids.h"
#include "tandem/core/transport/fault_injector.h"
#include "tandem/core/transport/zmq_server.h"

/// Not installed; for ZmqServer.
namespace tandem::transport_detail {

/// Joins fault injectors, one for each connection, to a server's network thread, which calls everything but
/// counts(). Messages of both directions go in and come out when they are due; a connection whose time has
/// come is cut by shutting down its TCP socket.
class ServerFaults {
 public:
  using TimePoint = FaultInjector::TimePoint;
  using Receive = std::function<void(ReceivedFrames)>;
  using Send = std::function<void(ConnectionId, wire::Frames)>;

  /// Says in the log that this run disturbs its own messages.
  explicit ServerFaults(const FaultOptions& options);

  /// Loses what still waits and says in the log what was done.
  void finish();

  /// `descriptor`: of the socket the message came from (ZMQ_SRCFD), or -1.
  void incoming(ReceivedFrames message, int descriptor);
  void outgoing(ConnectionId to, wire::Frames frames);
  /// Cuts what is to be cut, and passes on what is due; all that waits to go out when `closing`.
  void pass_on(const Receive& receive, const Send& send, bool closing);
  /// How long zmq_poll may wait, at most `otherwise` (-1: for ever).
  long poll_timeout(long otherwise) const;
  /// Any thread.
  FaultCounts counts() const;

 private:
  struct Connection {
    Connection(const FaultOptions& options, uint64_t stream, TimePoint now, FaultCounts& counts)
        : injector(options, stream, now, counts), last_used(now) {}
    FaultInjector injector;
    ClientId client;
    int descriptor = -1;
    std::string peer;  ///< whom the descriptor led to: its number may be given to another socket
    bool cut = false;
    TimePoint last_used;
  };

  Connection& connection_of(const ReceivedFrames& message, TimePoint now);
  void forget_idle(TimePoint now);
  void cut(Connection& connection);

  void publish_counts();

  const FaultOptions options_;
  FaultCounts counts_;
  std::map<ClientId, uint64_t> connections_of_client_;  // so far
  std::unordered_map<ConnectionId, Connection> connections_;
  mutable std::mutex mutex_;
  FaultCounts published_counts_;  // guarded by mutex_
};

}  // namespace tandem::transport_detail
