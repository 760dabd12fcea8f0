#include <spdlog/spdlog.h>

#include <iterator>
#include <string>
#include <utility>
#include <zmq.hpp>

#include "tandem/core/transport/slow_peers_detail.h"
#include "tandem/core/transport/zmq_detail.h"

namespace tandem::transport_detail {

void SlowPeers::send(ConnectionId to, wire::Frames frames) {
  if (const auto queue = waiting_.find(to); queue != waiting_.end()) {
    // Behind what already waits, so that a connection's messages keep their order.
    if (queue->second.size() < kMaxWaiting)
      queue->second.push_back(std::move(frames));
    else
      spdlog::warn("dropped a message to connection {}: {} already wait", to.value, kMaxWaiting);
    return;
  }
  if (send_frames(router_, routing_id_of(to), frames) == SendOutcome::kFull)
    waiting_[to].push_back(std::move(frames));
}

void SlowPeers::retry() {
  for (auto entry = waiting_.begin(); entry != waiting_.end();) {
    auto& [connection, queue] = *entry;
    const std::string routing_id = routing_id_of(connection);
    auto outcome = SendOutcome::kSent;
    while (!queue.empty() && outcome == SendOutcome::kSent) {
      outcome = send_frames(router_, routing_id, queue.front());
      if (outcome == SendOutcome::kSent) queue.pop_front();
    }
    const bool finished = queue.empty() || outcome == SendOutcome::kUnreachable;
    entry = finished ? waiting_.erase(entry) : std::next(entry);
  }
}

}  // namespace tandem::transport_detail
