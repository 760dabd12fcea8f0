#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

namespace zmq {
class context_t;
class socket_t;
}  // namespace zmq

/// Not installed; for core/transport and its tests.
namespace tandem::transport_detail {

/// Hears what libzmq does with a socket: whom it accepts, how handshakes end, when connections do. Owned by
/// the thread that owns the socket.
class SocketMonitor {
 public:
  /// `watched` and `context`, whose socket it is, must outlive the monitor. `name`: of no other monitor in
  /// the context. `events`: the ZMQ_EVENT_... to hear of, joined by |. Throws zmq::error_t.
  SocketMonitor(zmq::context_t& context, zmq::socket_t& watched, const std::string& name, int events);
  /// Stops listening.
  ~SocketMonitor();
  SocketMonitor(const SocketMonitor&) = delete;
  SocketMonitor& operator=(const SocketMonitor&) = delete;

  struct Event {
    uint16_t kind = 0;  ///< ZMQ_EVENT_...; 0 where libzmq said something else
    int32_t value = 0;  ///< by the kind: a descriptor, a status, an error's number or a reason
  };
  /// The next event that has happened; none where nothing is left. Never waits.
  std::optional<Event> next();

  /// To poll for the next event.
  void* handle();

 private:
  zmq::socket_t& watched_;
  std::unique_ptr<zmq::socket_t> events_;
};

}  // namespace tandem::transport_detail
