#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "tandem/core/base/ids.h"
#include "tandem/core/transport/handshake_failures_detail.h"
#include "tandem/core/transport/keys.h"
#include "tandem/core/transport/socket_monitor_detail.h"
#include "tandem/core/transport/zap_authenticator.h"

namespace zmq {
class context_t;
class socket_t;
}  // namespace zmq

/// Not installed; for core/transport and its tests.
namespace tandem::transport_detail {

/// What a connection may take before it is cut off.
struct GatekeeperLimits {
  /// Bytes until the handshake is complete; an honest one takes about 650.
  int64_t handshake_bytes = 4096;
  /// The largest message, all its frames together. What transport adds to it is allowed for.
  int64_t max_message_bytes = int64_t{512} << 20;
  /// Connections at a time, those in their handshake included; >= 1.
  int max_connections = 64;
  /// Connections of one device at a time; beyond, its oldest goes. A device that reconnects has two for a
  /// while, because the server learns late that the first is dead.
  int connections_per_device = 8;
};

/// How many connections a list of so many devices needs: each a dying and a new one, and some strangers.
int connection_limit_for(size_t devices);

/// Whom a message came from, as its metadata say.
struct MessageSource {
  int descriptor = -1;
  ConnectionId connection;
  std::string name;
  std::string key;  ///< Z85; empty without encryption
};

struct TcpCounters;

/// Guards a server socket's memory from outside of libzmq, which buffers a handshake's frames and a message's
/// parts before anybody can look at them (decisions.md 14).
///
/// It follows the socket's monitor to know the accepted descriptors, is woken by their traffic, and compares
/// what the kernel has received on each with what came out of the socket. A connection beyond a limit is
/// shut down; libzmq then drops it and frees what it held. Nothing runs while nobody sends, and while
/// somebody does, only the connections with traffic are looked at, at most every 5 ms, or every millisecond
/// while somebody is in the handshake.
///
/// A descriptor's number may belong to a new connection by the time we act on the old one, so a connection
/// is known by the kernel's socket cookie and checked on a duplicate before it is shut down.
///
/// Owned by the thread that owns the socket. One round of that thread is observe(), then receiving until
/// nothing is left with delivered() for each message, then judge().
class Gatekeeper {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  /// Before `server` is bound; `context`, `server` and `authenticator` must outlive it. `encrypted`: CURVE,
  /// else PLAIN. `heartbeat_interval`: of both ends' pings. `authenticator` tells who it may be that never
  /// delivered a message, and keeps out who sent too much. Throws zmq::error_t or std::system_error.
  Gatekeeper(zmq::context_t& context, zmq::socket_t& server, GatekeeperLimits limits, bool encrypted,
             std::chrono::milliseconds heartbeat_interval, ZapAuthenticator& authenticator);
  ~Gatekeeper();
  Gatekeeper(const Gatekeeper&) = delete;
  Gatekeeper& operator=(const Gatekeeper&) = delete;

  /// Hears of every connection of a device that bytes crossed, either way and whether or not they complete a
  /// message, at most every quarter of a second: for how long since the last time a transfer was going on.
  using OnLink = std::function<void(const ClientId&, std::chrono::milliseconds transfer)>;
  void set_on_link(OnLink on_link) { on_link_ = std::move(on_link); }

  void set_max_message_bytes(int64_t bytes) { limits_.max_message_bytes = bytes; }
  void set_max_connections(int connections) { limits_.max_connections = connections; }

  /// What to wait for: the monitor's socket, a descriptor (-1: not now), and no longer than that.
  void* monitor() { return monitor_.handle(); }
  int traffic_descriptor(TimePoint now) const;
  std::optional<std::chrono::milliseconds> longest_wait(TimePoint now) const;

  /// Takes in who came and went, and reads the counters of connections with traffic.
  void observe(TimePoint now);
  /// A message came out of the socket.
  void delivered(const MessageSource& source, TimePoint now);
  /// A message of so many bytes is in the socket for this connection. Until the peer's machine has
  /// acknowledged it, observe() looks at the connection every quarter of a second, traffic or not.
  void sent(ConnectionId to, int64_t bytes, TimePoint now);
  /// Whether there are connections with messages that have not left this machine, as of the last look.
  bool is_sending() const { return !sending_.empty(); }
  /// Looks at those now. Returns whether one of them has a transfer going on, or its messages have all left.
  bool look_at_departures(TimePoint now);
  /// Cuts off who was beyond its limit at the last observe() and has delivered nothing since. Only once
  /// everything that waited in the socket was delivered.
  void judge(TimePoint now);

  /// Cuts off every connection whose key is not in `devices` under the connection's name, and, because it
  /// may hold such a key, every connection that has not delivered a message yet.
  void keep_only(const DeviceList& devices, TimePoint now);
  /// The connection a message came from.
  void cut_off(const MessageSource& source, const std::string& why, TimePoint now);
  /// Ends the connection of this id, if it has delivered a message, and holds nothing against its peer.
  void shut_down(ConnectionId id);

  /// Connections that are open and not cut off.
  size_t connections() const { return open_; }
  uint64_t cut_off_so_far() const { return cut_; }

 private:
  struct Connection;
  using Connections = std::unordered_map<int, Connection>;  // by descriptor

  /// Takes in who was accepted and whose connection ended.
  void follow_monitor(TimePoint now);
  void accepted(int descriptor, TimePoint now);
  void handshake_failed(int descriptor, int code, TimePoint now);
  void closed(int descriptor);
  void no_longer_open(const Connection& connection);
  void establish(Connection& connection);
  std::chrono::milliseconds pause() const;
  void make_room(TimePoint now);
  Connection* dispensable();
  void forget_closed();
  void read_traffic(TimePoint now);
  void sample(Connection& connection, TimePoint now);
  void learn(Connection& connection, const MessageSource& source, TimePoint now);
  void limit_device(const std::string& name, TimePoint now);
  bool measure(Connection& connection, const TcpCounters& counters, TimePoint now);
  bool look_at_departure(Connection& connection, TimePoint now);
  Connection* find(ConnectionId id);
  int64_t allowed_bytes(const Connection& connection, TimePoint now) const;
  void cut(Connection& connection, const std::string& why, TimePoint now);
  std::vector<std::string> candidates(const Connection& connection) const;
  void log_cut(const Connection& connection, const std::string& why, TimePoint now);

  GatekeeperLimits limits_;
  const bool encrypted_;
  const std::chrono::milliseconds heartbeat_interval_;
  ZapAuthenticator& authenticator_;
  HandshakeFailures handshake_failures_;
  std::optional<int> failed_handshake_;  // its code, until libzmq says whose it was
  SocketMonitor monitor_;
  int epoll_ = -1;
  uint32_t next_serial_ = 0;
  TimePoint last_look_{};
  bool looked_since_ = false;  // traffic was read at last_look_ and the pause after it has not been noticed
  Connections connections_;
  std::unordered_map<ConnectionId, int> descriptors_;  // of connections that have delivered a message
  std::unordered_set<int> sending_;                    // descriptors
  TimePoint next_departure_look_{};
  std::vector<std::pair<int, uint32_t>> suspects_;  // descriptor and serial
  size_t open_ = 0;
  size_t in_handshake_ = 0;  // of those
  uint64_t cut_ = 0;
  RefusalLog log_;
  OnLink on_link_;
};

}  // namespace tandem::transport_detail
