#pragma once

#include <cstddef>
#include <deque>
#include <unordered_map>

#include "tandem/core/base/ids.h"
#include "tandem/core/wire/frame.h"

namespace zmq {
class socket_t;
}

/// Not installed; for ZmqServer and its tests.
namespace tandem::transport_detail {

/// Sends a ROUTER's messages, and keeps those whose connection has no room in libzmq's queue until it has. A
/// ROUTER cannot be polled for "this peer is writable again", so its owner calls retry() now and then while
/// something waits. Owned by the thread that owns the socket.
class SlowPeers {
 public:
  /// Messages that wait for one connection; more are dropped, and the log says so.
  static constexpr size_t kMaxWaiting = 64;

  /// `router` must outlive the object.
  explicit SlowPeers(zmq::socket_t& router) : router_(router) {}

  /// Sends a message, or keeps it behind what already waits for this connection. Lost where the connection is
  /// gone. Throws zmq::error_t.
  void send(ConnectionId to, wire::Frames frames);
  /// Sends what has room by now, and forgets what waits for connections that are gone. Throws zmq::error_t.
  void retry();
  /// Whether nothing waits.
  bool empty() const { return waiting_.empty(); }

 private:
  zmq::socket_t& router_;
  std::unordered_map<ConnectionId, std::deque<wire::Frames>> waiting_;
};

}  // namespace tandem::transport_detail
