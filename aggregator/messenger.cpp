#include "tandem/aggregator/messenger.h"

#include <utility>

#include "tandem/core/wire/message_codec.h"

namespace tandem::aggregator {
namespace {

/// Events that one client's behaviour may add to the record in one round.
constexpr int kMaxEventsPerClient = 50;

}  // namespace

Messenger::Messenger(uint64_t run_id, uint32_t incarnation, size_t kept_replies, Send send,
                     RunObserver& observer)
    : run_id_(run_id),
      incarnation_(incarnation),
      kept_replies_(kept_replies),
      send_(std::move(send)),
      observer_(observer) {}

wire::MessageKey Messenger::key(uint32_t round, uint32_t step) const {
  return {.run_id = run_id_, .incarnation = incarnation_, .round = round, .step = step};
}

bool Messenger::is_of_this_run(const wire::MessageKey& key) const {
  return key.run_id == run_id_ && key.incarnation == incarnation_;
}

int64_t Messenger::send_to(ConnectionId connection, const wire::Message& message) {
  wire::Frames frames = wire::encode(message);
  const auto bytes = static_cast<int64_t>(wire::total_bytes(frames));
  bytes_down_ += bytes;
  send_(connection, std::move(frames));
  return bytes;
}

void Messenger::send_message(const ClientId& client, const wire::Message& message) {
  Member& member = *roster_.find(client);
  member.bytes_down += send_to(member.connection, message);
}

void Messenger::send(const ClientId& client, wire::Body body, uint32_t round, uint32_t step) {
  send_message(client, {.key = key(round, step), .body = std::move(body)});
}

void Messenger::reply(const ClientId& client, wire::MessageType request, uint64_t payload_hash,
                      wire::Body body, uint32_t round, uint32_t step) {
  Member& member = *roster_.find(client);
  wire::Message message{.key = key(round, step), .body = std::move(body)};
  send_message(client, message);
  member.replies.push_back(
      {.request = request, .key = message.key, .payload_hash = payload_hash, .reply = std::move(message)});
  while (member.replies.size() > kept_replies_) member.replies.pop_front();
}

bool Messenger::answer_repeat(const ClientId& client, const wire::Message& request) {
  const Member& member = *roster_.find(client);
  const wire::MessageType type = wire::type_of(request.body);
  for (const KeptReply& kept : member.replies) {
    if (kept.request != type || !(kept.key == request.key)) continue;
    if (kept.payload_hash == request.payload_hash) {
      send_message(client, kept.reply);
    } else {
      refuse(member.connection, request.key, ErrorCode::kProtocol,
             "step " + std::to_string(request.key.step) + " was already answered for other data", false);
    }
    return true;
  }
  return false;
}

void Messenger::refuse(ConnectionId connection, const wire::MessageKey& key, ErrorCode code,
                       const std::string& reason, bool fatal) {
  ++refused_messages_;
  send_to(connection, {.key = key, .body = wire::Refuse{code, reason, fatal}});
}

void Messenger::begin_round(uint32_t ordinal) {
  ordinal_ = ordinal;
  events_of_client_.clear();
}

void Messenger::event(const std::string& name, const std::string& client, const std::string& detail) {
  // What a client does must not fill the disk: beyond a number a round, its events are only counted.
  if (!client.empty() && ++events_of_client_[client] > kMaxEventsPerClient) return;
  observe(observer_.on_event({.event = name, .round = ordinal_, .client = client, .detail = detail}));
}

void Messenger::observe(Result<void> outcome) {
  if (!outcome) fail(outcome.error());
}

void Messenger::fail(Error error) {
  if (!failure_) failure_ = std::move(error);
}

}  // namespace tandem::aggregator
