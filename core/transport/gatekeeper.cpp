#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <iterator>
#include <system_error>
#include <utility>
#include <zmq.hpp>

#include "tandem/core/transport/gatekeeper_detail.h"
#include "tandem/core/transport/link_meter_detail.h"
#include "tandem/core/transport/tcp_counters_detail.h"
#include "tandem/core/transport/zmq_detail.h"

namespace tandem::transport_detail {
namespace {

using std::chrono::milliseconds;

constexpr int kWatchedEvents =
    ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL;
constexpr milliseconds kPause{5};
// While somebody is in the handshake, before which a stranger can send without end: libzmq may take 2 MB in a
// millisecond.
constexpr milliseconds kPauseOfHandshakes{1};
constexpr int kTrafficBurst = 256;

// What a server has sent when the handshake is complete and not before: ZMTP's greeting has 64 bytes,
// CURVE's WELCOME 170 and PLAIN's 10, an ERROR at most 13; the READY that completes it has more than 40. A
// peer sends nothing beyond its handshake before it has acknowledged READY, so what the kernel has had
// acknowledged says how far the handshake is. The monitor's HANDSHAKE_SUCCEEDED does not say whose it was.
constexpr int64_t kBeforeReadyCurve = 64 + 170 + 14;
constexpr int64_t kBeforeReadyPlain = 64 + 10 + 14;

// ZMTP and CURVE add about 42 bytes to a frame.
constexpr int64_t kTransportBytes = static_cast<int64_t>(kMaxMessageParts) * 64 + 65536;
// Pings and pongs of one interval; they come without a message.
constexpr int64_t kHeartbeatBytes = 128;

std::string peer_of(int descriptor) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (getpeername(descriptor, reinterpret_cast<sockaddr*>(&address), &size) != 0) return "an unknown address";
  if (address.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
    inet_ntop(AF_INET, &v4.sin_addr, text.data(), text.size());
    return text.data();
  }
  const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address);
  inet_ntop(AF_INET6, &v6.sin6_addr, text.data(), text.size());
  return plain_address(text.data());
}

/// Shuts the descriptor's connection down if it still is that one.
void shut_down_descriptor(int descriptor, uint64_t cookie) {
  // libzmq may close the descriptor, and somebody may be given its number, at any moment; a duplicate stays
  // with the connection it was made of.
  const int duplicate = fcntl(descriptor, F_DUPFD_CLOEXEC, 0);
  if (duplicate < 0) return;
  if (socket_cookie(duplicate) == cookie) shutdown(duplicate, SHUT_RDWR);
  close(duplicate);
}

std::string bytes_text(int64_t bytes) {
  return std::to_string(bytes) + " bytes";
}

}  // namespace

struct Gatekeeper::Connection {
  int descriptor = -1;
  uint32_t serial = 0;
  uint64_t cookie = 0;
  std::string address;
  TimePoint since;
  TimePoint established_at;  ///< when it was noticed
  bool established = false;
  bool delivered = false;  ///< since the last sample
  bool cut = false;
  int64_t consumed = 0;  ///< taken by libzmq, at the last sample
  int64_t base = 0;      ///< of them, those known to belong to messages that were delivered
  TimePoint base_time;
  MessageSource source;  ///< of its messages; no name before the first
  TransferMeter arrivals;
  TransferMeter departures;
  int64_t crossed = 0;     ///< bytes either way, when on_link heard of it last
  DepartureLedger ledger;  ///< of its messages
};

int connection_limit_for(size_t devices) {
  constexpr size_t kMost = 1 << 20;
  return static_cast<int>(std::clamp<size_t>(2 * std::min(devices, kMost) + 16, 64, kMost));
}

Gatekeeper::Gatekeeper(zmq::context_t& context, zmq::socket_t& server, GatekeeperLimits limits,
                       bool encrypted, milliseconds heartbeat_interval, ZapAuthenticator& authenticator)
    : limits_(limits),
      encrypted_(encrypted),
      heartbeat_interval_(heartbeat_interval),
      authenticator_(authenticator),
      handshake_failures_(encrypted),
      monitor_(context, server, "gatekeeper", kWatchedEvents),
      epoll_(epoll_create1(EPOLL_CLOEXEC)) {
  if (epoll_ < 0) throw std::system_error(errno, std::generic_category(), "epoll_create1");
}

Gatekeeper::~Gatekeeper() {
  close(epoll_);
}

milliseconds Gatekeeper::pause() const {
  return in_handshake_ > 0 ? kPauseOfHandshakes : kPause;
}

int Gatekeeper::traffic_descriptor(TimePoint now) const {
  return now - last_look_ >= pause() ? epoll_ : -1;
}

std::optional<milliseconds> Gatekeeper::longest_wait(TimePoint now) const {
  TimePoint next = TimePoint::max();
  if (looked_since_ || !suspects_.empty()) next = last_look_ + pause();
  if (is_sending()) next = std::min(next, next_departure_look_);
  if (next == TimePoint::max()) return std::nullopt;
  return std::max(std::chrono::ceil<milliseconds>(next - now), milliseconds(1));
}

void Gatekeeper::follow_monitor(TimePoint now) {
  while (const auto event = monitor_.next()) {
    if (event->kind == ZMQ_EVENT_ACCEPTED) accepted(event->value, now);
    // libzmq reports the failure without a descriptor and, in the same breath, the end of the connection with
    // it.
    if (event->kind == ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL) failed_handshake_ = event->value;
    if (event->kind == ZMQ_EVENT_DISCONNECTED) {
      if (const auto code = std::exchange(failed_handshake_, std::nullopt))
        handshake_failed(event->value, *code, now);
      closed(event->value);
    }
  }
}

void Gatekeeper::observe(TimePoint now) {
  follow_monitor(now);
  make_room(now);
  if (now - last_look_ >= pause()) read_traffic(now);
  if (is_sending() && now >= next_departure_look_) (void)look_at_departures(now);
}

void Gatekeeper::accepted(int descriptor, TimePoint now) {
  closed(descriptor);  // its number is new, so the connection that had it is gone
  Connection connection;
  connection.descriptor = descriptor;
  connection.serial = ++next_serial_;
  connection.cookie = socket_cookie(descriptor);
  connection.address = peer_of(descriptor);
  connection.since = connection.base_time = now;
  epoll_event event{};
  // Edge-triggered: an event says that something came since the last look. The kernel drops an event whose
  // condition no longer holds when it is asked, and libzmq has usually read what came by then; that the
  // connection can be written to holds but for one that sends, which is looked at by the clock.
  event.events = EPOLLIN | EPOLLOUT | EPOLLET;
  event.data.u64 = uint64_t{connection.serial} << 32 | static_cast<uint32_t>(descriptor);
  // Fails when the connection is closed already; its DISCONNECTED follows.
  epoll_ctl(epoll_, EPOLL_CTL_ADD, descriptor, &event);
  connections_.emplace(descriptor, std::move(connection));
  ++open_;
  ++in_handshake_;
}

void Gatekeeper::handshake_failed(int descriptor, int code, TimePoint now) {
  const auto found = connections_.find(descriptor);
  if (found == connections_.end()) return;
  const std::string line = handshake_failures_.add(found->second.address, code, now);
  if (!line.empty()) spdlog::warn("{}", line);
}

void Gatekeeper::closed(int descriptor) {
  const auto found = connections_.find(descriptor);
  if (found == connections_.end()) return;
  if (!found->second.cut) no_longer_open(found->second);
  const auto known = descriptors_.find(found->second.source.connection);
  if (known != descriptors_.end() && known->second == descriptor) descriptors_.erase(known);
  sending_.erase(descriptor);
  connections_.erase(found);
}

void Gatekeeper::no_longer_open(const Connection& connection) {
  --open_;
  if (!connection.established) --in_handshake_;
}

void Gatekeeper::establish(Connection& connection) {
  if (!connection.established && !connection.cut) --in_handshake_;
  connection.established = true;
}

void Gatekeeper::make_room(TimePoint now) {
  const auto limit = static_cast<size_t>(limits_.max_connections);
  if (open_ <= limit) return;
  forget_closed();
  while (open_ > limit) {
    Connection* connection = dispensable();
    if (connection == nullptr) return;
    cut(*connection,
        "there are more than " + std::to_string(limits_.max_connections) + " connections (--limits)", now);
  }
}

/// The oldest that is still in its handshake, so that strangers who only hold connections keep nobody out;
/// else the oldest that never said anything; else the newest.
Gatekeeper::Connection* Gatekeeper::dispensable() {
  Connection* best = nullptr;
  const auto rank = [](const Connection& c) { return c.source.name.empty() ? (c.established ? 1 : 0) : 2; };
  for (auto& [descriptor, connection] : connections_) {
    if (connection.cut) continue;
    if (best == nullptr) {
      best = &connection;
      continue;
    }
    const int ours = rank(connection);
    const int theirs = rank(*best);
    const bool older = static_cast<int32_t>(connection.serial - best->serial) < 0;
    if (ours < theirs || (ours == theirs && older == (ours < 2))) best = &connection;
  }
  return best;
}

/// A connection that ended without libzmq saying so.
void Gatekeeper::forget_closed() {
  for (auto entry = connections_.begin(); entry != connections_.end();) {
    Connection& connection = (entry++)->second;
    if (socket_cookie(connection.descriptor) != connection.cookie) closed(connection.descriptor);
  }
}

void Gatekeeper::read_traffic(TimePoint now) {
  std::array<epoll_event, kTrafficBurst> events;
  looked_since_ = false;
  for (int count = kTrafficBurst; count == kTrafficBurst;) {
    count = epoll_wait(epoll_, events.data(), kTrafficBurst, 0);
    for (int i = 0; i < count; ++i) {
      looked_since_ = true;
      const auto found = connections_.find(static_cast<int>(events[i].data.u64 & 0xFFFFFFFF));
      if (found == connections_.end() || found->second.serial != events[i].data.u64 >> 32) continue;
      if (!found->second.cut) sample(found->second, now);
    }
  }
  if (looked_since_) last_look_ = now;
}

void Gatekeeper::sample(Connection& connection, TimePoint now) {
  const auto counters = TcpCounters::read(connection.descriptor);
  if (!counters) return;
  if (!connection.established) {
    if (counters->acknowledged <= (encrypted_ ? kBeforeReadyCurve : kBeforeReadyPlain)) {
      if (counters->received > limits_.handshake_bytes)
        cut(connection, bytes_text(counters->received) + " came before its handshake was complete", now);
      return;
    }
    establish(connection);
    connection.established_at = now;
    connection.delivered = true;  // the handshake belongs to no message
  }
  connection.consumed = counters->consumed();
  measure(connection, *counters, now);
  if (connection.delivered) {
    connection.delivered = false;
    connection.base = connection.consumed;
    connection.base_time = now;
  }
  if (connection.consumed - connection.base > allowed_bytes(connection, now))
    suspects_.emplace_back(connection.descriptor, connection.serial);
}

/// Tells whose connection it is what crossed it. Returns whether a transfer to the peer was going on.
bool Gatekeeper::measure(Connection& connection, const TcpCounters& counters, TimePoint now) {
  const auto came = connection.arrivals.look(now, counters.received);
  const auto went = connection.departures.look(now, counters.acknowledged);
  const int64_t crossed = counters.received + counters.acknowledged;
  if ((!came && !went) || crossed == connection.crossed) return false;
  connection.crossed = crossed;
  const milliseconds up = came.value_or(milliseconds(0));
  const milliseconds down = went.value_or(milliseconds(0));
  if (on_link_ && !connection.source.name.empty()) on_link_({connection.source.name}, std::max(up, down));
  return down.count() > 0;
}

Gatekeeper::Connection* Gatekeeper::find(ConnectionId id) {
  const auto known = descriptors_.find(id);
  if (known == descriptors_.end()) return nullptr;
  const auto found = connections_.find(known->second);
  return found == connections_.end() ? nullptr : &found->second;
}

void Gatekeeper::sent(ConnectionId to, int64_t bytes, TimePoint now) {
  Connection* connection = find(to);
  if (connection == nullptr || connection->cut) return;
  if (sending_.insert(connection->descriptor).second) {
    const auto counters = TcpCounters::read(connection->descriptor);
    connection->ledger.begin(counters ? counters->acknowledged : 0);
    if (sending_.size() == 1) next_departure_look_ = now + TransferMeter::kInterval;
  }
  connection->ledger.handed_over(now, bytes);
}

bool Gatekeeper::look_at_departures(TimePoint now) {
  next_departure_look_ = now + TransferMeter::kInterval;
  bool something_moves = false;
  for (auto entry = sending_.begin(); entry != sending_.end();) {
    Connection& connection = connections_.at(*entry);
    something_moves = look_at_departure(connection, now) || something_moves;
    entry = connection.ledger.bytes_left() > 0 ? std::next(entry) : sending_.erase(entry);
  }
  return something_moves;
}

bool Gatekeeper::look_at_departure(Connection& connection, TimePoint now) {
  const auto counters = TcpCounters::read(connection.descriptor);
  // libzmq closes the descriptor by itself, and then its number may be another's.
  if (!counters || connection.cut || socket_cookie(connection.descriptor) != connection.cookie) {
    connection.ledger.begin(0);
    return false;
  }
  connection.ledger.acknowledged(counters->acknowledged);
  const bool is_transfer = measure(connection, *counters, now);
  return is_transfer || connection.ledger.bytes_left() == 0;
}

int64_t Gatekeeper::allowed_bytes(const Connection& connection, TimePoint now) const {
  const int64_t intervals = (now - connection.base_time) / heartbeat_interval_ + 1;
  return limits_.max_message_bytes + kTransportBytes + intervals * kHeartbeatBytes;
}

void Gatekeeper::delivered(const MessageSource& source, TimePoint now) {
  auto found = connections_.find(source.descriptor);
  if (found == connections_.end()) {  // accepted after the last look: the event is there, since a message is
    follow_monitor(now);
    found = connections_.find(source.descriptor);
  }
  if (found == connections_.end()) return;
  Connection& connection = found->second;
  connection.delivered = true;
  if (connection.source.connection != source.connection || connection.source.name.empty())
    learn(connection, source, now);
}

void Gatekeeper::learn(Connection& connection, const MessageSource& source, TimePoint now) {
  // A message that waited while its connection ended carries the number of a descriptor that may be another
  // connection's by now. libzmq counts connections upwards.
  const auto ahead = static_cast<int32_t>(source.connection.value - connection.source.connection.value);
  if (!connection.source.name.empty() && ahead < 0) return;
  descriptors_.erase(connection.source.connection);
  descriptors_[source.connection] = connection.descriptor;
  connection.source = source;
  establish(connection);
  limit_device(source.name, now);
}

void Gatekeeper::limit_device(const std::string& name, TimePoint now) {
  int count = 0;
  Connection* oldest = nullptr;
  for (auto& [descriptor, connection] : connections_) {
    if (connection.cut || connection.source.name != name) continue;
    ++count;
    if (oldest == nullptr || static_cast<int32_t>(connection.serial - oldest->serial) < 0)
      oldest = &connection;
  }
  if (count > limits_.connections_per_device)
    cut(*oldest, "it has more than " + std::to_string(limits_.connections_per_device) + " connections", now);
}

void Gatekeeper::judge(TimePoint now) {
  for (const auto& [descriptor, serial] : std::exchange(suspects_, {})) {
    const auto found = connections_.find(descriptor);
    if (found == connections_.end() || found->second.serial != serial) continue;
    Connection& connection = found->second;
    if (connection.cut || connection.delivered) continue;
    std::string why = bytes_text(connection.consumed - connection.base) +
                      " came without a complete message, and the largest accepted has " +
                      bytes_text(limits_.max_message_bytes);
    // It would come back at once and cost as much again.
    if (const auto names = candidates(connection); names.size() == 1)
      why += "; kept out for " + std::to_string(authenticator_.suspend(names[0]).count()) + " s";
    cut(connection, why, now);
  }
}

void Gatekeeper::keep_only(const DeviceList& devices, TimePoint now) {
  if (!encrypted_) return;
  for (auto& [descriptor, connection] : connections_) {
    if (connection.cut) continue;
    const auto listed = devices.find(connection.source.key);
    if (listed != devices.end() && listed->second.name == connection.source.name) continue;
    cut(connection,
        connection.source.name.empty() ? "the device list changed before its first message"
                                       : "its key was taken off the device list",
        now);
  }
}

void Gatekeeper::cut_off(const MessageSource& source, const std::string& why, TimePoint now) {
  const auto found = connections_.find(source.descriptor);
  if (found == connections_.end() || found->second.cut) return;
  if (found->second.source.connection == source.connection) cut(found->second, why, now);
}

void Gatekeeper::shut_down(ConnectionId id) {
  if (const Connection* connection = find(id))
    shut_down_descriptor(connection->descriptor, connection->cookie);
}

void Gatekeeper::cut(Connection& connection, const std::string& why, TimePoint now) {
  shut_down_descriptor(connection.descriptor, connection.cookie);
  no_longer_open(connection);
  connection.cut = true;
  ++cut_;
  log_cut(connection, why, now);
}

/// Whose it may be: one name, but for other handshakes from the same address at the same moment.
std::vector<std::string> Gatekeeper::candidates(const Connection& connection) const {
  if (!connection.source.name.empty()) return {connection.source.name};
  if (!connection.established) return {};
  // The kernel's connection and libzmq's question about its key have only the address in common.
  constexpr milliseconds kLateness{100};
  return authenticator_.admitted(connection.address, connection.since - kLateness, connection.established_at);
}

void Gatekeeper::log_cut(const Connection& connection, const std::string& why, TimePoint now) {
  std::string who;
  for (const std::string& name : candidates(connection)) who += (who.empty() ? "" : " or ") + name;
  if (!log_.admit(who.empty() ? connection.address : who, now)) return;
  spdlog::warn("cut off {} at {}: {} ({} connections so far)", who.empty() ? "a peer" : who,
               connection.address, why, cut_);
}

}  // namespace tandem::transport_detail
