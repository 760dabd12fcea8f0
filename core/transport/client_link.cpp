#include "tandem/core/transport/client_link_detail.h"

#include <algorithm>

#include "tandem/core/transport/tcp_counters_detail.h"

namespace tandem::transport_detail {
namespace {

constexpr int64_t kMoreThanHeartbeats = 16 << 10;

}  // namespace

void ClientLink::connected(int descriptor) {
  descriptor_ = descriptor;
  cookie_ = socket_cookie(descriptor);
}

void ClientLink::established(LinkTime now) {
  const TcpCounters counters = TcpCounters::read(descriptor_).value_or(TcpCounters{});
  arrivals_.begin(now, counters.received);
  ledger_.begin(counters.acknowledged);
  established_ = true;
  next_look_ = now + TransferMeter::kInterval;
  const std::lock_guard lock(mutex_);
  state_ = {.sent_until = now, .transfer_at = now};
}

void ClientLink::ended() {
  established_ = false;
  descriptor_ = -1;
}

void ClientLink::look(LinkTime now, LinkTime held) {
  if (!established_) return;
  const bool is_due = now >= next_look_;
  // libzmq closes the descriptor by itself, and then its number may be another's.
  if (is_due && socket_cookie(descriptor_) == cookie_) {
    next_look_ = now + TransferMeter::kInterval;
    if (const auto counters = TcpCounters::read(descriptor_)) {
      ledger_.acknowledged(counters->acknowledged);
      if (arrivals_.look(now, counters->received).value_or(std::chrono::milliseconds(0)).count() > 0) {
        const std::lock_guard lock(mutex_);
        state_.transfer_at = now;
      }
    }
  }
  const std::lock_guard lock(mutex_);
  state_.sent_until = std::min(held, ledger_.oldest().value_or(now));
  state_.is_sending = held < now || is_sending();
}

bool ClientLink::is_sending() const {
  return ledger_.bytes_left() > kMoreThanHeartbeats;
}

LinkState ClientLink::state() const {
  const std::lock_guard lock(mutex_);
  return state_;
}

}  // namespace tandem::transport_detail
