#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <unordered_map>
#include <utility>

#include "tandem/core/base/ids.h"
#include "tandem/core/transport/zmq_detail.h"
#include "tandem/core/wire/frame.h"

/// Not installed; for ZmqServer and its tests.
namespace tandem::transport_detail {

/// Sends a ROUTER's messages, and keeps those whose connection has no room in libzmq's queue until it has. A
/// ROUTER cannot be polled for "this peer is writable again", so its owner calls retry() now and then while
/// something waits. Owned by the thread that owns the socket.
class SlowPeers {
 public:
  /// Messages that wait for one connection; more are dropped, and the log says so.
  static constexpr size_t kMaxWaiting = 64;

  /// Hears how many bytes a message had that is in the socket now.
  using OnSent = std::function<void(ConnectionId, int64_t bytes)>;

  /// `router` must outlive the object. `on_sent` may be empty.
  explicit SlowPeers(zmq::socket_t& router, OnSent on_sent = {})
      : router_(router), on_sent_(std::move(on_sent)) {}

  /// Sends a message, or keeps it behind what already waits for this connection. Lost where the connection is
  /// gone. Throws zmq::error_t.
  void send(ConnectionId to, wire::Frames frames);
  /// Sends what has room by now, and forgets what waits for connections that are gone. Throws zmq::error_t.
  void retry();
  /// Whether nothing waits.
  bool empty() const { return waiting_.empty(); }

 private:
  SendOutcome try_to_send(ConnectionId to, const wire::Frames& frames);

  zmq::socket_t& router_;
  const OnSent on_sent_;
  std::unordered_map<ConnectionId, std::deque<wire::Frames>> waiting_;
};

}  // namespace tandem::transport_detail
