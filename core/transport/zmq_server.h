#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "tandem/core/base/ids.h"
#include "tandem/core/base/result.h"
#include "tandem/core/transport/keys.h"
#include "tandem/core/transport/transport.h"
#include "tandem/core/wire/frame.h"

namespace tandem {

struct ZmqServerOptions {
  /// "tcp://ADDRESS:PORT"; port * lets the system choose (see endpoint()).
  std::string endpoint = "tcp://127.0.0.1:5555";
  /// The server's own pair. Unused under `insecure`.
  KeyPair keys;
  /// Who may connect. Copied; ZmqServer::set_devices() replaces it.
  DeviceList devices;
  /// No encryption and no authentication: a peer is who it says it is (the name travels as a PLAIN user
  /// name). Only for loopback endpoints: start() refuses others.
  bool insecure = false;
  /// Largest frame libzmq accepts from a peer.
  int64_t max_frame_bytes = 256 << 20;
  /// Connections at a time; beyond, one that is still in its handshake is cut off, else the newest. 0 follows
  /// the device list: two for each and 16, at least 64; without encryption 4096. The process's limit of open
  /// files is raised for them; fewer where it cannot be, but every listed device must have room.
  int max_connections = 0;
  /// Messages libzmq keeps for one peer, each way.
  int high_water_mark = 8;
  /// A peer that vanished (no TCP acknowledgements) loses its connection after three intervals, not less
  /// than 3 s. One that keeps TCP alive and does nothing else loses it after three intervals and the time
  /// max_frame_bytes take at 32 kbit/s, at most an hour: ZMTP's heartbeats count a large frame on its way as
  /// silence.
  std::chrono::milliseconds heartbeat_interval{2000};
};

/// The aggregator's socket: a ROUTER with CURVE and a ZAP handler, owned by one network thread.
/// The ZAP handler is bound before the socket and the domain is enforced, so that without a working
/// handler nobody gets in (CURVE alone fails open). A refused key is logged with its Z85 text, at most
/// once a second a key. A message without User-Id is dropped. A gatekeeper watches what the kernel receives
/// for each connection, because libzmq buffers before anybody can look: beyond 4 KiB before the handshake is
/// complete, beyond the largest message without completing one, beyond the number of connections or 8 of one
/// device, a connection is cut off and named in the log, at most once a second. Who sent more than the
/// largest message is kept out for a second, and twice as long each further time, up to a minute.
class ZmqServer : public ServerConnections {
 public:
  /// kInvalidArgument for a malformed endpoint, a public one under `insecure`, or malformed keys.
  static Result<std::unique_ptr<ZmqServer>> make(ZmqServerOptions options);
  /// Stops at once, unsent messages are dropped.
  ~ZmqServer() override;

  /// Binds. The handlers are called on the network thread; on_revoked after on_message was called for the
  /// device's last message.
  Result<void> start(ServerHandlers handlers) override;

  /// The bound address, with the real port; empty before start().
  const std::string& endpoint() const;

  /// Queues a message for a connection. Any thread; messages of one thread to one connection keep their
  /// order. A vanished connection's messages are dropped, and so is what a connection that does not read
  /// leaves beyond 64 waiting messages. Waits while 1024 messages are queued, except on the network thread.
  /// Returns false after stop.
  bool send(ConnectionId to, wire::Frames frames) override;

  /// Who may connect from now on. A connection whose key is not in the list under its name is closed at once,
  /// one that has not yet sent a message as well (it comes back if it may), and no message of such a
  /// connection reaches the handler any more. Any thread, once started. Nothing under `insecure`.
  void set_devices(DeviceList devices);

  /// Who sends more without completing a message is cut off. At first the limit is twice max_frame_bytes,
  /// which stays the bound of a frame.
  void set_max_message_bytes(int64_t bytes) override;

  /// Only a connection that has sent a message.
  void cut(ConnectionId connection) override;

  void catch_up() override;

  /// Sends what is queued, for as long as the peers' machines acknowledge bytes of it and for up to
  /// `patience` while none does, then closes the socket and joins the thread. Idempotent. Sent is not
  /// delivered: when the peer sends at the moment of closing, if only a ping, TCP resets the connection and
  /// the peer loses what it has not read. Who must know waits for an answer first.
  void stop(std::chrono::milliseconds patience) override;

 private:
  struct Impl;
  explicit ZmqServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tandem
