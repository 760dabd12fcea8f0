#include "tandem/aggregator/aggregator.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

namespace tandem::aggregator {
namespace {

/// Messages that may wait for the trainer. A client has at most its window plus a heartbeat outstanding;
/// what comes beyond is dropped, and an honest client sends it again.
constexpr size_t kInboxCapacity = 4096;
constexpr std::chrono::milliseconds kStopCheck{200};
constexpr std::chrono::seconds kLinger{2};
constexpr std::chrono::seconds kUndecodableLogInterval{5};

}  // namespace

Aggregator::Aggregator(AggregatorSession& session, wire::Limits limits)
    : session_(session), limits_(limits), inbox_(kInboxCapacity) {}

Aggregator::~Aggregator() {
  inbox_.close();
  server_.reset();
}

Result<void> Aggregator::listen(ZmqServerOptions options) {
  auto server =
      ZmqServer::start(std::move(options), [this](ReceivedFrames received) { enqueue(std::move(received)); });
  if (!server) return server.error();
  server_ = std::move(*server);
  return {};
}

std::string Aggregator::endpoint() const {
  return server_->endpoint();
}

void Aggregator::send(ConnectionId connection, wire::Frames frames) {
  if (server_) server_->send(connection, std::move(frames));
}

void Aggregator::enqueue(ReceivedFrames received) {
  const auto bytes = static_cast<int64_t>(wire::total_bytes(received.frames));
  Inbound inbound{.connection = received.connection,
                  .client = std::move(received.client),
                  .message = wire::decode(received.frames, limits_),
                  .bytes = bytes,
                  .received_at = std::chrono::steady_clock::now()};
  if (!inbox_.try_push(std::move(inbound))) {
    spdlog::debug("a message was dropped: the trainer is {} messages behind", kInboxCapacity);
  }
}

void Aggregator::log_undecodable(const ClientId& client, const Error& error) {
  Undecodable& known = undecodable_[client];
  const TimePoint now = std::chrono::steady_clock::now();
  if (++known.count > 1 && now - known.logged_at < kUndecodableLogInterval) return;
  known.logged_at = now;
  spdlog::warn("{} sent a message that does not decode ({} so far): {}", client.name, known.count,
               error.message);
}

void Aggregator::hand_over(Inbound inbound) {
  if (inbound.message) {
    session_.receive(inbound.connection, inbound.client, std::move(*inbound.message), inbound.bytes,
                     inbound.received_at);
  } else {
    log_undecodable(inbound.client, inbound.message.error());
    session_.receive_undecodable(inbound.connection, inbound.client, inbound.message.error());
  }
}

void Aggregator::run(const std::function<bool()>& should_stop) {
  while (!session_.done()) {
    if (should_stop()) session_.stop("interrupted");
    const TimePoint deadline = session_.next_deadline().value_or(TimePoint::max());
    // A deadline counts only once everything that arrived before it has been handed over: time spent
    // training or evaluating is not held against clients whose messages waited. Messages come in the
    // order of their arrival, so one that arrived later says that nothing earlier is left.
    if (auto inbound = inbox_.pop_until(std::min(deadline, std::chrono::steady_clock::now() + kStopCheck))) {
      const TimePoint arrived = inbound->received_at;
      hand_over(std::move(*inbound));
      if (arrived >= deadline) session_.tick(arrived);
    } else {
      session_.tick(std::chrono::steady_clock::now());
    }
  }
  server_->stop(kLinger);
}

}  // namespace tandem::aggregator
