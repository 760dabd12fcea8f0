#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "tandem/core/base/result.h"
#include "tandem/core/transport/zmq_client.h"
#include "tandem/core/transport/zmq_server.h"
#include "tandem/core/wire/frame.h"

namespace zmq {
class message_t;
class socket_t;
}  // namespace zmq

/// What the server and the client share. Not installed; for core/transport and its tests.
namespace tandem::transport_detail {

/// The ZAP domain of every server socket.
inline constexpr char kZapDomain[] = "tandem";
/// The property of a message that holds the Z85 key its connection was let in for.
inline constexpr char kKeyProperty[] = "X-Key";
/// Messages with more parts are dropped: the first frame, 4096 tensors (wire::Limits) and the routing id.
inline constexpr size_t kMaxMessageParts = 4100;
/// The handshake has this long; also how long a stranger may hold a connection.
inline constexpr std::chrono::milliseconds kHandshakeLimit{10000};
/// The TCP connection has this long. Where a host that was off comes back, TCP's own repeats (after 1, 3 and
/// 7 seconds) would notice late.
inline constexpr std::chrono::milliseconds kConnectLimit{3000};

/// Wakes a thread that polls descriptor(). Any thread may signal; signals before clear() merge.
class WakeUp {
 public:
  /// Throws std::system_error when the system has no descriptor left.
  WakeUp();
  ~WakeUp();
  WakeUp(const WakeUp&) = delete;
  WakeUp& operator=(const WakeUp&) = delete;

  void signal() noexcept;
  void clear() noexcept;
  int descriptor() const { return descriptor_; }

 private:
  int descriptor_;
};

/// How long a peer that answers TCP but nothing else is waited for. libzmq's heartbeat timer is reset by
/// complete frames only, so the largest frame must get through the slowest link (32 kbit/s) within it, or
/// nearly: an hour is the most that ZMTP allows.
std::chrono::milliseconds silence_limit(std::chrono::milliseconds heartbeat_interval,
                                        int64_t max_frame_bytes);

/// Sets every option of a fresh ROUTER before it is bound, security first. Throws zmq::error_t.
void configure_server_socket(zmq::socket_t& socket, const ZmqServerOptions& options);

/// Sets every option of a fresh DEALER before it connects. `ipv6`: the address it connects to is one. Throws
/// zmq::error_t.
void configure_client_socket(zmq::socket_t& socket, const ZmqClientOptions& options, bool ipv6);

enum class SendOutcome {
  kSent,
  kFull,         ///< nothing was sent: the peer's queue is at its high-water mark
  kUnreachable,  ///< the ROUTER knows no such peer
};

/// Sends one message without waiting and without copying: libzmq's messages hold a copy of each Frame
/// until they are written. `routing_id` comes first unless it is empty (DEALER). Throws zmq::error_t.
SendOutcome send_frames(zmq::socket_t& socket, const std::string& routing_id, const wire::Frames& frames);

/// Received parts never move: a short message's bytes lie inside the message_t itself.
using Parts = std::vector<std::shared_ptr<zmq::message_t>>;

enum class ReceiveOutcome {
  kNothing,
  kMessage,
  kTooManyParts,  ///< read to its end and dropped
};

/// Receives one message without waiting. Throws zmq::error_t.
ReceiveOutcome receive_parts(zmq::socket_t& socket, Parts& parts);

/// Frames that borrow parts[first..].
wire::Frames borrow_parts(const Parts& parts, size_t first);

/// The ids libzmq's ROUTER gives to peers that set none: a zero byte and 4 bytes. Others are not ours.
bool connection_of(const zmq::message_t& routing_id, ConnectionId& connection);
std::string routing_id_of(ConnectionId connection);

/// An IPv4 address as a socket for both families shows it ("::ffff:192.0.2.1") becomes "192.0.2.1"; others
/// stay.
std::string plain_address(const std::string& address);

/// Signals (SIGINT, SIGTERM, ...) are for the program's own threads.
void block_signals_on_this_thread();

}  // namespace tandem::transport_detail
