#include "tandem/edge_client/program/edge_client.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "tandem/core/base/running_clock.h"

namespace tandem::edge_client {
namespace {

constexpr size_t kInboxCapacity = 256;
constexpr std::chrono::milliseconds kTickInterval{200};
constexpr std::chrono::seconds kGoodbyeWait{2};
constexpr std::chrono::milliseconds kGoodbyeRepeat{300};
constexpr std::chrono::seconds kNoticeInterval{5};

}  // namespace

EdgeClient::EdgeClient(EdgeSession& session, ClientConnection& transport, Options options,
                       std::function<void(const std::string&)> note)
    : session_(session),
      transport_(transport),
      options_(std::move(options)),
      note_(std::move(note)),
      inbox_(kInboxCapacity) {}

EdgeClient::~EdgeClient() {
  inbox_.close();
  transport_.stop(std::chrono::milliseconds(0));
}

void EdgeClient::enqueue(ClientEvent event) {
  // The network thread never waits for the session, which may itself be waiting to send. A message that
  // finds no room is dropped, and asked for again when its answer is missed.
  if (std::holds_alternative<client_event::Received>(event)) {
    (void)inbox_.try_push(std::move(event));
  } else {
    inbox_.push(std::move(event));
  }
}

void EdgeClient::handle(ClientEvent event) {
  if (std::holds_alternative<client_event::Connected>(event)) {
    connected_ = was_connected_ = true;
    handshake_failures_ = 0;
    session_.connected();
  } else if (std::holds_alternative<client_event::Disconnected>(event)) {
    if (connected_) {
      disconnected_since_ = RunningClock::now();
      note_("the connection to " + options_.endpoint + " is lost, reconnecting");
    }
    connected_ = false;
  } else if (const auto* failed = std::get_if<client_event::HandshakeFailed>(&event)) {
    connected_ = false;
    last_failure_ = failed->reason;
    // Nobody listens or answers: the aggregator may come (back). A handshake that fails will not heal by
    // waiting, unless the keys have fitted before.
    if (failed->unreachable || (was_connected_ && !failed->refused)) {
      handshake_failures_ = 0;
    } else if (++handshake_failures_ >= options_.max_handshake_failures) {
      failure_ = Error{ErrorCode::kRefused, failed->reason};
    }
  } else {
    handle_frames(std::get<client_event::Received>(event).frames);
  }
}

void EdgeClient::handle_frames(const wire::Frames& frames) {
  auto message = wire::decode(frames, options_.limits);
  if (message) {
    session_.receive(std::move(*message), static_cast<int64_t>(wire::total_bytes(frames)));
  } else if (message.error().code == ErrorCode::kUnsupported) {
    failure_ = message.error();
  } else {
    note_("a message from the aggregator does not decode: " + message.error().message);
  }
}

void EdgeClient::say_what_it_waits_for(TimePoint now) {
  if (connected_) return say_what_the_session_waits_for(now);
  if (options_.give_up_after.count() > 0 && now - disconnected_since_ > options_.give_up_after) {
    failure_ = Error{ErrorCode::kTimeout, "no aggregator at " + options_.endpoint + " for " +
                                              std::to_string(options_.give_up_after.count() / 1000) +
                                              " s (--give-up-after)" +
                                              (last_failure_.empty() ? "" : ": " + last_failure_)};
  } else if (now - last_notice_ >= kNoticeInterval) {
    last_notice_ = now;
    const std::string doing = transport_.doing();
    note_("waiting for the aggregator at " + options_.endpoint + (doing.empty() ? "" : ": " + doing) +
          (last_failure_.empty() ? "" : " (" + last_failure_ + ")"));
  }
}

void EdgeClient::say_what_the_session_waits_for(TimePoint now) {
  // Not the last message counts, which may have said the same again, but the last that moved something.
  const Progress progress{session_.phase(), session_.round(), session_.steps_done()};
  if (progress != progress_) {
    progress_ = progress;
    last_notice_ = now;
  }
  if (now - last_notice_ < kNoticeInterval) return;
  const std::string what = session_.waiting_for();
  if (what.empty()) return;
  last_notice_ = now;
  note_("waiting for " + what);
}

Result<void> EdgeClient::run(const std::function<bool()>& should_stop) {
  last_notice_ = disconnected_since_ = RunningClock::now();
  // The transport's thread sends the heartbeats, so that a device that computes for long is not taken for
  // gone.
  auto started = transport_.start([this](ClientEvent event) { enqueue(std::move(event)); },
                                  {.message = wire::encode({.body = wire::Heartbeat{}})});
  if (!started) return started;

  while (!session_.done() && !failure_) {
    if (should_stop()) {
      session_.leave("interrupted");
      break;
    }
    const auto now = std::chrono::steady_clock::now();
    if (auto event = inbox_.pop_until(session_.has_work() ? now : now + kTickInterval)) {
      handle(std::move(*event));
    } else if (session_.has_work()) {
      session_.work();
    } else {
      if (connected_) session_.tick();  // what is lost with the connection is sent again with the next
      say_what_it_waits_for(RunningClock::now());
    }
  }
  if (connected_ && !failure_ && session_.phase() != EdgeSession::Phase::kFailed) say_goodbye();
  inbox_.close();
  transport_.stop(std::chrono::milliseconds(connected_ && !failure_ ? 500 : 0));
  if (failure_) return *failure_;
  if (session_.failure()) return *session_.failure();
  return {};
}

void EdgeClient::say_goodbye() {
  // A clean stop waits for an acknowledged Bye: what is only sent can be lost as the socket closes.
  const auto deadline = std::chrono::steady_clock::now() + kGoodbyeWait;
  // Either of the two can be lost on the way, and then it is said again.
  auto repeat_at = std::chrono::steady_clock::now() + kGoodbyeRepeat;
  while (connected_ && !session_.bye_received() && std::chrono::steady_clock::now() < deadline) {
    if (auto event = inbox_.pop_until(std::min(repeat_at, deadline))) handle(std::move(*event));
    if (session_.bye_received() || std::chrono::steady_clock::now() < repeat_at) continue;
    repeat_at += kGoodbyeRepeat;
    session_.repeat_bye();
  }
}

}  // namespace tandem::edge_client
