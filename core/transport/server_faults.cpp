#include "tandem/core/transport/server_faults_detail.h"

#include <netinet/in.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>

#include <algorithm>
#include <iterator>
#include <utility>
#include <vector>

namespace tandem::transport_detail {
namespace {

using Clock = std::chrono::steady_clock;
using Direction = FaultInjector::Direction;

// A live client sends a heartbeat every half second; an injector that was idle for so long has none.
constexpr std::chrono::seconds kForgetAfter{60};

/// The address at the other end, as bytes; empty where there is none.
std::string peer_of(int descriptor) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  if (descriptor < 0 || getpeername(descriptor, reinterpret_cast<sockaddr*>(&address), &size) != 0) return {};
  return {reinterpret_cast<const char*>(&address), size};
}

}  // namespace

ServerFaults::ServerFaults(const FaultOptions& options) : options_(options) {
  spdlog::warn("--fault: this run disturbs its own messages: {} (seed {})", options_.text(), options_.seed);
}

void ServerFaults::finish() {
  connections_.clear();
  publish_counts();
  spdlog::warn("--fault: {}", counts_.text());
}

ServerFaults::Connection& ServerFaults::connection_of(const ReceivedFrames& message, TimePoint now) {
  if (const auto known = connections_.find(message.connection); known != connections_.end())
    return known->second;
  forget_idle(now);
  // Counted for each client, so that a client meets the same faults in whatever order others come.
  const uint64_t count = ++connections_of_client_[message.client];
  const uint64_t stream = derive_seed(hash_name(message.client.name), RandomPurpose::kNetwork, {count});
  Connection& connection =
      connections_.try_emplace(message.connection, options_, stream, now, counts_).first->second;
  connection.client = message.client;
  return connection;
}

void ServerFaults::forget_idle(TimePoint now) {
  std::erase_if(connections_,
                [now](const auto& entry) { return now - entry.second.last_used > kForgetAfter; });
}

void ServerFaults::incoming(ReceivedFrames message, int descriptor) {
  const TimePoint now = Clock::now();
  Connection& connection = connection_of(message, now);
  connection.last_used = now;
  if (descriptor >= 0 && connection.descriptor != descriptor) {
    connection.descriptor = descriptor;
    connection.peer = peer_of(descriptor);
  }
  connection.injector.put(Direction::kIn, std::move(message.frames), now);
}

void ServerFaults::outgoing(ConnectionId to, wire::Frames frames) {
  const auto known = connections_.find(to);
  if (known == connections_.end()) {  // idle for so long that its client is gone
    ++counts_.messages;
    ++counts_.discarded;
    return;
  }
  known->second.injector.put(Direction::kOut, std::move(frames), Clock::now());
}

void ServerFaults::cut(Connection& connection) {
  connection.injector.cut();
  connection.cut = true;
  // libzmq sees the end of the stream and closes the rest.
  if (!connection.peer.empty() && peer_of(connection.descriptor) == connection.peer)
    shutdown(connection.descriptor, SHUT_RDWR);
}

void ServerFaults::pass_on(const Receive& receive, const Send& send, bool closing) {
  const TimePoint now = Clock::now();
  const TimePoint due_out = closing ? TimePoint::max() : now;
  // Taken out first: receive() may send, which puts in.
  std::vector<ReceivedFrames> received;
  std::vector<std::pair<ConnectionId, wire::Frames>> sent;
  for (auto& [id, connection] : connections_) {
    if (connection.injector.cut_due(now)) cut(connection);
    if (connection.cut) {
      connection.injector.lose_all();
      continue;
    }
    while (auto frames = connection.injector.take(Direction::kIn, now))
      received.push_back({id, connection.client, std::move(*frames)});
    while (auto frames = connection.injector.take(Direction::kOut, due_out))
      sent.emplace_back(id, std::move(*frames));
  }
  publish_counts();
  for (auto& [to, frames] : sent) send(to, std::move(frames));
  for (ReceivedFrames& message : received) receive(std::move(message));
}

long ServerFaults::poll_timeout(long otherwise) const {
  TimePoint next = TimePoint::max();
  for (const auto& entry : connections_) next = std::min(next, entry.second.injector.next_due());
  if (next == TimePoint::max()) return otherwise;
  const auto rest = std::chrono::ceil<std::chrono::milliseconds>(next - Clock::now());
  const long until = std::max<long>(rest.count(), 0);
  return otherwise < 0 ? until : std::min(until, otherwise);
}

void ServerFaults::publish_counts() {
  const std::lock_guard lock(mutex_);
  published_counts_ = counts_;
}

FaultCounts ServerFaults::counts() const {
  const std::lock_guard lock(mutex_);
  return published_counts_;
}

}  // namespace tandem::transport_detail
