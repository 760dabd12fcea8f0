#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "tandem/core/base/result.h"
#include "tandem/core/transport/keys.h"
#include "tandem/core/transport/transport.h"
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
};

/// The edge's socket: a DEALER with CURVE pinned to one server key, owned by one network thread that
/// watches the socket's monitor and reconnects by itself. A vanished server is noticed within three
/// heartbeat intervals (not less than 3 s); one that keeps TCP alive and does nothing else, within three
/// intervals and the time max_frame_bytes take at 32 kbit/s, at most an hour.
///
/// What libzmq 4.3.4 lets a client see of a handshake that fails (found by experiment):
///   * this device's key is not listed: HANDSHAKE_FAILED_AUTH with ZAP status 400, so `refused`;
///   * the pinned server key is wrong: the server hangs up without a word, HANDSHAKE_FAILED_NO_DETAIL. So
///   does
///     a port forwarder whose aggregator is down; the client then looks whether ZeroMQ answers there at all;
///   * one side speaks CURVE, the other does not: HANDSHAKE_FAILED_PROTOCOL (mechanism mismatch), or
///     NO_DETAIL where the server hangs up first;
///   * nobody listens: CLOSED or CONNECT_RETRIED, so `unreachable`.
/// Bytes changed on the way look like a wrong key, so a reason without `refused` need not be final.
class ZmqClient : public ClientConnection {
 public:
  /// kInvalidArgument for a malformed endpoint or key.
  static Result<std::unique_ptr<ZmqClient>> make(ZmqClientOptions options);
  /// Stops at once, unsent messages are dropped.
  ~ZmqClient() override;

  /// `handler` is called on the network thread. kNetwork where the system has no thread or descriptor left.
  Result<void> start(Handler handler, Keepalive keepalive) override;

  /// Queues a message. Any thread. What is queued while disconnected is dropped: the owner says Hello
  /// after Connected and repeats what has no answer. Waits while 256 messages are queued, except on the
  /// network thread, where the message is dropped then. Returns false after stop.
  bool send(wire::Frames frames) override;

  /// Sends what is queued for up to `linger`, then closes the socket and joins the thread. Idempotent.
  /// Sent is not delivered: when the peer sends at the moment of closing, if only a ping, TCP resets the
  /// connection and the peer loses what it has not read. Who must know waits for an answer first.
  void stop(std::chrono::milliseconds linger) override;

  void cut() override;
  std::string doing() const override;
  /// A quarter of a second old at most, while connected. Any thread.
  LinkState link() const override;

 private:
  struct Impl;
  explicit ZmqClient(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tandem
