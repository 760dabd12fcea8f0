#include <spdlog/spdlog.h>

#include <iterator>
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
  if (try_to_send(to, frames) == SendOutcome::kFull) waiting_[to].push_back(std::move(frames));
}

SendOutcome SlowPeers::try_to_send(ConnectionId to, const wire::Frames& frames) {
  const SendOutcome outcome = send_frames(router_, routing_id_of(to), frames);
  if (outcome == SendOutcome::kSent && on_sent_)
    on_sent_(to, static_cast<int64_t>(wire::total_bytes(frames)));
  return outcome;
}

void SlowPeers::retry() {
  for (auto entry = waiting_.begin(); entry != waiting_.end();) {
    auto& [connection, queue] = *entry;
    auto outcome = SendOutcome::kSent;
    while (!queue.empty() && outcome == SendOutcome::kSent) {
      outcome = try_to_send(connection, queue.front());
      if (outcome == SendOutcome::kSent) queue.pop_front();
    }
    const bool finished = queue.empty() || outcome == SendOutcome::kUnreachable;
    entry = finished ? waiting_.erase(entry) : std::next(entry);
  }
}

}  // namespace tandem::transport_detail
