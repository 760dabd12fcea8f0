#include "tandem/aggregator/program/aggregator.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "tandem/core/base/running_clock.h"

namespace tandem::aggregator {
namespace {

/// Messages that may wait for the trainer, of everybody and of one client. An honest client has at most its
/// window, a Hello and some heartbeats waiting; what comes beyond is dropped, and an honest client sends
/// again what has no answer.
constexpr size_t kInboxCapacity = 1 << 16;
constexpr int kQueuedPerClient = 128;
/// Dropped messages after which a client is flooding.
constexpr int64_t kFlood = 1000;
constexpr int64_t kLargestHeartbeat = 128;
/// Until the model is known a client has nothing to say but Hello.
constexpr int64_t kLargestGreeting = 8 << 20;
constexpr std::chrono::milliseconds kStopCheck{200};
constexpr std::chrono::seconds kUndecodableLogInterval{5};
constexpr std::chrono::seconds kNoticeInterval{5};

}  // namespace

Aggregator::Aggregator(AggregatorSession& session, ServerConnections& transport, wire::Limits limits)
    : session_(session), transport_(transport), limits_(limits), inbox_(kInboxCapacity) {}

Aggregator::~Aggregator() {
  inbox_.close();
  transport_.stop(std::chrono::milliseconds(0));
}

Result<void> Aggregator::listen() {
  ServerHandlers handlers;
  handlers.on_message = [this](ReceivedFrames received) { enqueue(std::move(received)); };
  handlers.on_revoked = [this](const ClientId& client) {
    inbox_.try_push({.client = client, .message = wire::Message{}, .revoked = true});
  };
  handlers.on_link = [this](const ClientId& client, std::chrono::milliseconds transfer) {
    note_heard(client, transfer);
  };
  if (auto started = transport_.start(std::move(handlers)); !started) return started;
  transport_.set_max_message_bytes(kLargestGreeting);
  return {};
}

bool Aggregator::admit(const ClientId& client, int64_t bytes) {
  const std::lock_guard lock(queued_mutex_);
  Queued& queued = queued_[client];
  // The first message is let in whatever its size: the transport has bounded that.
  const bool has_room =
      queued.messages == 0 || (queued.messages < kQueuedPerClient &&
                               queued.bytes + bytes <= static_cast<int64_t>(limits_.max_message_bytes));
  if (!has_room) {
    if (bytes > kLargestHeartbeat) ++queued.dropped;
    return false;
  }
  queued.messages += 1;
  queued.bytes += bytes;
  return true;
}

/// How many messages of the client were dropped, once they are a flood; else 0.
int64_t Aggregator::release(const ClientId& client, int64_t bytes) {
  const std::lock_guard lock(queued_mutex_);
  Queued& queued = queued_[client];
  queued.messages -= 1;
  queued.bytes -= bytes;
  return queued.dropped >= kFlood ? std::exchange(queued.dropped, 0) : 0;
}

void Aggregator::enqueue(ReceivedFrames received) {
  const auto bytes = static_cast<int64_t>(wire::total_bytes(received.frames));
  if (!admit(received.client, bytes)) {
    spdlog::debug("a message of {} was dropped: too many of its messages wait", received.client.name);
    return;
  }
  Inbound inbound{.connection = received.connection,
                  .client = std::move(received.client),
                  .message = wire::decode(received.frames, limits_),
                  .bytes = bytes,
                  .received_at = RunningClock::now(),
                  .address = std::move(received.address)};
  const ClientId client = inbound.client;
  if (!inbox_.try_push(std::move(inbound))) {
    release(client, bytes);
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
  if (inbound.revoked) return session_.revoke(inbound.client, "its key was taken off the device list");
  const int64_t flood = release(inbound.client, inbound.bytes);
  if (flood > 0) session_.flooded(inbound.client, flood);
  if (inbound.message) {
    session_.receive(inbound.connection, inbound.client, std::move(*inbound.message), inbound.bytes,
                     inbound.received_at, inbound.address);
  } else {
    log_undecodable(inbound.client, inbound.message.error());
    session_.receive_undecodable(inbound.connection, inbound.client, inbound.message.error());
  }
}

/// On the network thread, which always listens: what the session is busy with is not held against anybody.
void Aggregator::note_heard(const ClientId& client, std::chrono::milliseconds transfer) {
  const TimePoint now = RunningClock::now();
  const std::lock_guard lock(heard_mutex_);
  Heard& heard = heard_[client];
  heard.at = now;
  heard.transfer += transfer;
}

void Aggregator::hand_over_heard() {
  std::map<ClientId, Heard> heard;
  {
    const std::lock_guard lock(heard_mutex_);
    heard.swap(heard_);
  }
  for (const auto& [client, what] : heard) session_.heard(client, what.at, what.transfer);
}

void Aggregator::say_what_it_waits_for() {
  const TimePoint now = std::chrono::steady_clock::now();
  if (!note_ || now - last_notice_ < kNoticeInterval) return;
  last_notice_ = now;
  if (const std::string what = session_.waiting_for(); !what.empty()) note_("waiting for " + what);
}

void Aggregator::run(const std::function<bool()>& should_stop, std::function<void(const std::string&)> note) {
  note_ = std::move(note);
  last_notice_ = std::chrono::steady_clock::now();
  try {
    run_session(should_stop);
  } catch (const std::exception& exception) {
    // The clients are told and the run directory is finished whatever happens while training.
    session_.fail({ErrorCode::kUnsupported, std::string("training failed: ") + exception.what()});
  }
  // Goodbyes are still on their way: until they have left, or nothing moves any more.
  transport_.stop(session_.client_timeout());
}

void Aggregator::run_session(const std::function<bool()>& should_stop) {
  while (!session_.done()) {
    if (should_stop()) session_.stop("interrupted");
    const TimePoint now = RunningClock::now();
    const TimePoint deadline = session_.next_deadline().value_or(TimePoint::max());
    // A deadline counts only once everything that arrived before it has been handed over: time spent
    // training or evaluating is not held against clients whose messages waited. Messages come in the
    // order of their arrival, so one that arrived later says that nothing earlier is left.
    const TimePoint::duration wait = std::min<TimePoint::duration>(deadline - now, kStopCheck);
    auto inbound = inbox_.pop_until(std::chrono::steady_clock::now() + wait);
    hand_over_heard();
    if (inbound) {
      const TimePoint arrived = inbound->received_at;
      hand_over(std::move(*inbound));
      if (arrived >= deadline) session_.tick(arrived);
    } else {
      tick_once_all_is_heard();
    }
    say_what_it_waits_for();
    bound_messages();
  }
}

/// The transport's thread may be late as well, on a busy machine: only when it has looked is nothing left.
void Aggregator::tick_once_all_is_heard() {
  const TimePoint now = RunningClock::now();
  transport_.catch_up();
  if (inbox_.size() > 0) return;  // first what came by now
  hand_over_heard();
  session_.tick(now);
}

/// Once the model is known: whoever sends more than anybody can have to say is cut off. All that a window
/// allows may arrive before the first of it is taken out.
void Aggregator::bound_messages() {
  if (messages_bounded_ || session_.largest_message() == 0) return;
  messages_bounded_ = true;
  transport_.set_max_message_bytes(session_.largest_message() * (int64_t{session_.plan().window} + 1));
}

}  // namespace tandem::aggregator
