#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <variant>

#include "tandem/core/base/ids.h"
#include "tandem/core/base/result.h"
#include "tandem/core/wire/frame.h"

namespace tandem {

/// What moves on a client's connection. Times are those of the transport's owner, RunningClock's for a
/// socket.
struct LinkState {
  /// What send() took before this moment has left this machine: the peer's has acknowledged it.
  std::chrono::steady_clock::time_point sent_until;
  /// When more than heartbeats came last, complete messages or not; the beginning of the connection where
  /// nothing has.
  std::chrono::steady_clock::time_point transfer_at;
  /// Whether so much is on its way to the peer that a heartbeat would wait behind it.
  bool is_sending = false;
};

/// What a client's session sends through. It is made before the session, which holds a pointer to it, and
/// outlives it.
class ClientTransport {
 public:
  virtual ~ClientTransport() = default;

  /// Takes a message for the aggregator and never waits for the aggregator. What is sent while there is no
  /// connection is lost. The frames must not be written any more. Returns false when nothing is taken any
  /// more. An empty message is std::invalid_argument.
  virtual bool send(wire::Frames frames) = 0;

  /// What moves on the connection.
  virtual LinkState link() const = 0;
};

/// What the aggregator's session sends through. It is made before the session, which holds a pointer to it,
/// and outlives it.
class ServerTransport {
 public:
  virtual ~ServerTransport() = default;

  /// Takes a message for a connection and never waits for its peer. The messages to one connection keep their
  /// order; those to a connection that is gone are lost. The frames must not be written any more. Returns
  /// false when nothing is taken any more. An empty message is std::invalid_argument.
  virtual bool send(ConnectionId to, wire::Frames frames) = 0;
};

/// What happens on a client's connection.
namespace client_event {
struct Connected {};     ///< say Hello (again)
struct Disconnected {};  ///< the connection is lost; the transport reconnects by itself
/// Every address of the server was tried in vain, or the server refused this device; the next attempt follows
/// by itself. `reason` says what to look at.
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

/// A message that the transport itself sends all the time, also while its owner computes.
struct Keepalive {
  /// Empty for none.
  wire::Frames message;
  /// How often. It is left out where it would wait behind a large message, whose bytes are as good a sign of
  /// life.
  std::chrono::milliseconds interval{500};
};

/// A client's transport as its program sees it: it connects, loses the connection, connects again, and tells
/// of all that. A program makes one, gives it to its session as a ClientTransport, and then starts it.
class ClientConnection : public ClientTransport {
 public:
  /// Called on one thread of the transport's, one event after another. It must not wait for long, and must
  /// not stop or destroy the transport. send() never waits on this thread, and loses what finds no room.
  using Handler = std::function<void(ClientEvent)>;

  /// Begins to connect, once in a transport's life. Connecting itself never fails: it goes on trying.
  /// `handler` is called until stop() returns. An empty one, or a keepalive's interval below 1 ms, is
  /// std::invalid_argument.
  virtual Result<void> start(Handler handler, Keepalive keepalive) = 0;

  /// Sends what is queued for up to `linger` and ends. Idempotent; does nothing before start(). Sent is not
  /// delivered: who must know waits for an answer first.
  virtual void stop(std::chrono::milliseconds linger) = 0;

  /// Breaks the connection that there is, if any: what is on its way is lost, Disconnected follows, and then
  /// the next attempt to connect. Any thread.
  virtual void cut() = 0;

  /// What the transport does to connect, for a person, such as "connecting to ADDRESS:PORT for 3 s". Empty
  /// while it is connected or pauses. Any thread.
  virtual std::string doing() const = 0;
};

/// A message as it came from an authenticated peer.
struct ReceivedFrames {
  ConnectionId connection;
  ClientId client;  ///< the name that belongs to the connection's key
  wire::Frames frames;
  std::string address;  ///< of the machine it came from, as the kernel says
};

/// What the aggregator's transport tells its owner. All of it is called on one thread of the transport's; it
/// must not wait for long, and must not stop or destroy the transport.
struct ServerHandlers {
  std::function<void(ReceivedFrames)> on_message;
  /// A client that may not connect any more: nothing of it follows, but for what faults have delayed. May be
  /// empty.
  std::function<void(const ClientId&)> on_revoked;
  /// A client whose connection bytes crossed, either way and whether or not they complete a message: for how
  /// long since the last call more than heartbeats did. Called at most every quarter of a second for a
  /// connection; may be empty.
  std::function<void(const ClientId&, std::chrono::milliseconds transfer)> on_link;
};

/// The aggregator's transport as its program sees it: clients connect to it. A program makes one, gives it to
/// its session as a ServerTransport, and then starts it.
class ServerConnections : public ServerTransport {
 public:
  /// Lets clients in, once in a transport's life. kNetwork names the endpoint and the reason (port in use,
  /// ...). An empty on_message is std::invalid_argument.
  virtual Result<void> start(ServerHandlers handlers) = 0;

  /// Waits until the handlers have been told of everything that had come when this was called, so that a
  /// client is not taken for silent because the transport's own thread did not get its turn. Under a flood of
  /// messages the last of them may be told later. Any thread but the handlers'; returns at once before
  /// start() and after the end.
  virtual void catch_up() = 0;

  /// Sends what is queued, for as long as bytes of it leave this machine and for up to `patience` while none
  /// do, and ends. Idempotent; does nothing before start(). Sent is not delivered: who must know waits for an
  /// answer first.
  virtual void stop(std::chrono::milliseconds patience) = 0;

  /// Breaks a connection; its client may come back on another. Any thread.
  virtual void cut(ConnectionId connection) = 0;

  /// The largest message, all frames together, that a peer may send from now on. Any thread;
  /// std::invalid_argument below 1.
  virtual void set_max_message_bytes(int64_t bytes) = 0;
};

}  // namespace tandem
