#include "tandem/aggregator/session/messenger.h"

#include <ATen/ATen.h>

#include <cstring>
#include <string>
#include <unordered_map>
#include <utility>

#include <nlohmann/json.hpp>

#include "tandem/core/wire/message_codec.h"

namespace tandem::aggregator {
namespace {

/// Begins the names of kept replies in a checkpoint.
constexpr const char* kReplies = "replies.";

std::string reply_prefix(const ClientId& client, size_t index) {
  return kReplies + client.name + "/" + std::to_string(index) + "/";
}

at::Tensor bytes_of(const wire::Frame& frame) {
  at::Tensor bytes = at::empty({static_cast<int64_t>(frame.size())}, at::kByte);
  if (frame.size() > 0) std::memcpy(bytes.data_ptr(), frame.data(), frame.size());
  return bytes;
}

wire::Frame frame_of(const at::Tensor& bytes) {
  if (!bytes.defined() || bytes.scalar_type() != at::kByte || bytes.dim() != 1) return {};
  const at::Tensor dense = bytes.contiguous();
  return wire::Frame::own(
      std::string(static_cast<const char*>(dense.data_ptr()), static_cast<size_t>(dense.numel())));
}

/// What takes long on a slow link, and is not to be sent twice.
bool carries_weights(const wire::Body& body) {
  return std::holds_alternative<wire::BeginRound>(body) || std::holds_alternative<wire::Evaluate>(body) ||
         std::holds_alternative<wire::Finish>(body);
}

/// Events of one client, or of one kind, that the record has for one round.
constexpr int kMaxEventsInRound = 50;

}  // namespace

Messenger::Messenger(uint64_t run_id, uint32_t incarnation, size_t kept_replies, int quarantine_after,
                     ServerTransport& transport, RunObserver& observer)
    : run_id_(run_id),
      incarnation_(incarnation),
      kept_replies_(kept_replies),
      quarantine_after_(quarantine_after),
      transport_(transport),
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
  dispatch(connection, std::move(frames));
  return bytes;
}

void Messenger::dispatch(ConnectionId connection, wire::Frames frames) {
  if (connection == ConnectionId{}) return;  // not back yet: it gets what it lacks when it is
  if (holding_) {
    held_.emplace_back(connection, std::move(frames));
  } else {
    transport_.send(connection, std::move(frames));
  }
}

void Messenger::release() {
  holding_ = false;
  auto held = std::exchange(held_, {});
  // What rests on something that could not be kept must not become known.
  if (failure_) return;
  for (auto& [connection, frames] : held) transport_.send(connection, std::move(frames));
}

void Messenger::send_message(const ClientId& client, const wire::Message& message) {
  Member& member = *roster_.find(client);
  if (carries_weights(message.body)) member.weights_on_their_way = true;
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
      count_offence(client, "another batch for a step that was answered");
    }
    return true;
  }
  return false;
}

nlohmann::json Messenger::state(NamedTensors& tensors) const {
  nlohmann::json members = nlohmann::json::object();
  for (const auto& [client, member] : roster_.members()) {
    nlohmann::json replies = nlohmann::json::array();
    for (const KeptReply& kept : member.replies) {
      const std::string prefix = reply_prefix(client, replies.size());
      const wire::Frames frames = wire::encode(kept.reply);
      for (size_t i = 0; i < frames.size(); ++i)
        tensors.push_back({prefix + std::to_string(i), bytes_of(frames[i])});
      replies.push_back({{"request", static_cast<int>(kept.request)},
                         {"payload_hash", kept.payload_hash},
                         {"frames", frames.size()}});
    }
    members[client.name] = {{"instance", member.instance},
                            {"input_shape", member.data.input_shape},
                            {"num_classes", member.data.num_classes},
                            {"num_examples", member.data.num_examples},
                            {"held_out_examples", member.held_out_examples},
                            {"present", (member.present || member.awaited) && !member.said_bye},
                            {"position", member.position},
                            {"bytes_up", member.bytes_up},
                            {"bytes_down", member.bytes_down},
                            {"took_part", member.took_part},
                            {"lost_rounds", member.lost_rounds},
                            {"offences", member.offences},
                            {"quarantined", member.quarantined},
                            {"replies", std::move(replies)}};
  }
  return {{"members", std::move(members)},
          {"ordinal", ordinal_},
          {"bytes_up", bytes_up_},
          {"bytes_down", bytes_down_},
          {"refused_messages", refused_messages_}};
}

Result<void> Messenger::load_state(const nlohmann::json& state, const NamedTensors& tensors, TimePoint now) {
  std::unordered_map<std::string, at::Tensor> by_name;
  for (const NamedTensor& entry : without_prefix(tensors, kReplies))
    by_name.emplace(entry.name, entry.tensor);
  for (const auto& [name, value] : state.at("members").items()) {
    Member member{.instance = value.at("instance").get<uint64_t>(),
                  .data = {.input_shape = value.at("input_shape").get<std::vector<int64_t>>(),
                           .num_classes = value.at("num_classes").get<int64_t>(),
                           .num_examples = value.at("num_examples").get<int64_t>()},
                  .held_out_examples = value.at("held_out_examples").get<uint64_t>(),
                  .present = value.at("present").get<bool>(),
                  .last_heard = now,
                  .position = value.at("position").get<uint64_t>(),
                  .bytes_up = value.at("bytes_up").get<int64_t>(),
                  .bytes_down = value.at("bytes_down").get<int64_t>(),
                  .took_part = value.at("took_part").get<bool>(),
                  .lost_rounds = value.value("lost_rounds", 0u),
                  .offences = value.at("offences").get<int>(),
                  .quarantined = value.at("quarantined").get<std::string>()};
    for (const auto& kept : value.at("replies")) {
      const std::string prefix = reply_prefix({name}, member.replies.size()).substr(std::strlen(kReplies));
      wire::Frames frames;
      for (size_t i = 0; i < kept.at("frames").get<size_t>(); ++i) {
        frames.push_back(frame_of(by_name[prefix + std::to_string(i)]));
      }
      auto reply = wire::decode(frames, {});
      if (!reply) return Error{reply.error().code, "a reply kept for " + name + ": " + reply.error().message};
      // A repeat of the request comes under the present incarnation.
      reply->key.incarnation = incarnation_;
      member.replies.push_back({.request = static_cast<wire::MessageType>(kept.at("request").get<int>()),
                                .key = reply->key,
                                .payload_hash = kept.at("payload_hash").get<uint64_t>(),
                                .reply = std::move(*reply)});
    }
    roster_.restore({name}, std::move(member));
  }
  ordinal_ = state.at("ordinal").get<uint32_t>();
  bytes_up_ = state.at("bytes_up").get<int64_t>();
  bytes_down_ = state.at("bytes_down").get<int64_t>();
  refused_messages_ = state.at("refused_messages").get<uint64_t>();
  return {};
}

void Messenger::refuse(ConnectionId connection, const wire::MessageKey& key, ErrorCode code,
                       const std::string& reason, bool fatal) {
  ++refused_messages_;
  send_to(connection, {.key = key, .body = wire::Refuse{code, reason, fatal}});
}

void Messenger::begin_round(uint32_t ordinal) {
  ordinal_ = ordinal;
  events_in_round_.clear();
}

void Messenger::event(const std::string& name, const std::string& client, const std::string& detail) {
  // What a client does must not fill the disk: beyond a number a round, its events are only counted, and
  // those of all clients together by their kind.
  if (++events_in_round_[client.empty() ? "(" + name + ")" : client] > kMaxEventsInRound) return;
  observe(observer_.on_event({.event = name, .round = ordinal_, .client = client, .detail = detail}));
}

void Messenger::offence(const ClientId& client, const std::string& event_name, const std::string& reason) {
  count_refused();
  event(event_name, client.name, reason);
  count_offence(client, reason);
}

void Messenger::count_offence(const ClientId& client, const std::string& reason) {
  Member* member = roster_.find(client);
  if (member == nullptr || quarantine_after_ == 0 || ++member->offences < quarantine_after_) return;
  condemn(client, std::to_string(member->offences) + " messages that made no sense, the last: " + reason);
}

void Messenger::condemn(const ClientId& client, const std::string& reason) {
  Member* member = roster_.find(client);
  if (member == nullptr || quarantine_after_ == 0 || !member->quarantined.empty()) return;
  member->quarantined = reason;
  condemned_.push_back(client);
}

void Messenger::observe(Result<void> outcome) {
  if (!outcome) fail(outcome.error());
}

void Messenger::fail(Error error) {
  if (!failure_) failure_ = std::move(error);
}

}  // namespace tandem::aggregator
