#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <variant>

#include "tandem/core/base/result.h"
#include "tandem/core/transport/fault_injector.h"
#include "tandem/core/transport/keys.h"
#include "tandem/core/wire/frame.h"

namespace tandem {

struct ZmqClientOptions {
  /// "tcp://HOST:PORT". A host name is looked up anew for every connection, and each of its addresses is
  /// tried.
  std::string endpoint;
  /// The aggregator's public key this device is pinned to (Z85). Unused under `insecure`.
  std::string server_public_key;
  /// The device's own pair. Unused under `insecure`.
  KeyPair keys;
  /// No encryption; `insecure_name` is the name the server sees. Loopback endpoints only.
  bool insecure = false;
  std::string insecure_name;
  int64_t max_frame_bytes = 256 << 20;
  int high_water_mark = 8;
  /// Waits between two attempts to connect are drawn from zero to a limit, which doubles from the first to
  /// the second of these; see ReconnectBackoff.
  std::chrono::milliseconds reconnect_first{100};
  std::chrono::milliseconds reconnect_max{2000};
  std::chrono::milliseconds heartbeat_interval{2000};
  /// Sent by the network thread itself every `keepalive_interval`, also while the owner computes, but not
  /// where it would wait behind a large message, whose bytes are as good a sign of life; empty for none.
  wire::Frames keepalive;
  std::chrono::milliseconds keepalive_interval{500};
  /// Disturbs this client's own messages, for trials; said in the log at the start and counted at the end.
  FaultOptions fault;
};

/// What happens on the connection.
namespace client_event {
struct Connected {};     ///< the handshake is complete: say Hello (again)
struct Disconnected {};  ///< the connection is lost; the socket reconnects by itself
/// Every address of the server was tried in vain, or the server refused this device; the next attempt follows
/// by itself. `reason` says what to look at. What libzmq 4.3.4 lets a client see (found by experiment):
///   * this device's key is not listed: HANDSHAKE_FAILED_AUTH with ZAP status 400, so `refused`;
///   * the pinned server key is wrong: the server hangs up without a word, HANDSHAKE_FAILED_NO_DETAIL. So
///   does a
///     port forwarder whose aggregator is down; the client then looks whether ZeroMQ answers there at all;
///   * one side speaks CURVE, the other does not: HANDSHAKE_FAILED_PROTOCOL (mechanism mismatch), or
///     NO_DETAIL where the server hangs up first;
///   * nobody listens: CLOSED or CONNECT_RETRIED, so `unreachable`.
/// Bytes changed on the way look like a wrong key, so a reason without `refused` need not be final.
struct HandshakeFailed {
  bool refused = false;
  std::string reason;
  /// No server has answered at one of the addresses at least: the name cannot be looked up, nobody listens,
  /// or whoever accepts the connection stays silent or hangs up. The server may not be up yet.
  bool unreachable = false;
};
struct Received {
  wire::Frames frames;
};
}  // namespace client_event
using ClientEvent = std::variant<client_event::Connected, client_event::Disconnected,
                                 client_event::HandshakeFailed, client_event::Received>;

/// What moves on the connection, by the kernel's counters. Times are RunningClock's.
struct LinkState {
  /// What send() took before this moment has left this machine: the peer's has acknowledged it.
  std::chrono::steady_clock::time_point sent_until;
  /// When more than heartbeats came last, complete messages or not; the beginning of the connection where
  /// nothing has.
  std::chrono::steady_clock::time_point transfer_at;
};

/// The edge's socket: a DEALER with CURVE pinned to one server key, owned by one network thread that
/// watches the socket's monitor and reconnects by itself. A vanished server is noticed within three
/// heartbeat intervals (not less than 3 s); one that keeps TCP alive and does nothing else, within three
/// intervals and the time max_frame_bytes take at 32 kbit/s, at most an hour.
class ZmqClient {
 public:
  /// Called on the network thread; must not block for long, and must not stop or destroy the client.
  using Handler = std::function<void(ClientEvent)>;

  /// kInvalidArgument for a malformed endpoint or key. Connecting itself never fails: it goes on trying.
  static Result<std::unique_ptr<ZmqClient>> start(ZmqClientOptions options, Handler handler);
  /// Stops at once, unsent messages are dropped.
  ~ZmqClient();

  /// Queues a message. Any thread. What is queued while disconnected is dropped: the owner says Hello
  /// after Connected and repeats what has no answer. Waits while 256 messages are queued, except on the
  /// network thread, where the message is dropped then. Frames must not be written until sent. Returns
  /// false after stop.
  bool send(wire::Frames frames);

  /// Sends what is queued for up to `linger`, then closes the socket and joins the thread. Idempotent.
  /// Sent is not delivered: when the peer sends at the moment of closing, if only a ping, TCP resets the
  /// connection and the peer loses what it has not read. Who must know waits for an answer first.
  void stop(std::chrono::milliseconds linger);

  /// What the client does to connect, for a person: "looking up "HOST" for 12 s", "connecting to
  /// ADDRESS:PORT", "in the handshake with ADDRESS:PORT". Empty while it is connected or pauses. Any thread.
  std::string doing() const;
  /// A quarter of a second old at most, while connected. Any thread.
  LinkState link() const;

  /// What ZmqClientOptions::fault did; complete once stopped. Any thread.
  FaultCounts fault_counts() const;

 private:
  struct Impl;
  explicit ZmqClient(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tandem
