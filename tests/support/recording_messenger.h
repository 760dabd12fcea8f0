#pragma once

#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "tandem/aggregator/session/messenger.h"
#include "tandem/core/wire/message_codec.h"
//
#include "support/recording_observer.h"
#include "support/test.h"

namespace tandem::testing {

/// A messenger to clients that are there, which keeps what they are sent as they would decode it.
class RecordingMessenger : private ServerTransport {
 public:
  explicit RecordingMessenger(const std::vector<ClientId>& clients) {
    uint64_t connection = 0;
    for (const ClientId& client : clients) messenger.roster().admit(client, {++connection}, 1, {}, {});
  }

  /// What the client was sent since this was last asked.
  std::vector<wire::Message> sent_to(const ClientId& client) {
    std::vector<wire::Message> sent;
    std::vector<std::pair<ConnectionId, wire::Message>> left;
    for (auto& [connection, message] : std::exchange(outbox_, {})) {
      if (connection == messenger.roster().find(client)->connection) {
        sent.push_back(std::move(message));
      } else {
        left.emplace_back(connection, std::move(message));
      }
    }
    outbox_ = std::move(left);
    return sent;
  }

  /// The same as text, such as "Gradients 0": the kind of each with its step, and why it was skipped.
  std::vector<std::string> answers_to(const ClientId& client) {
    std::vector<std::string> texts;
    for (const wire::Message& message : sent_to(client)) {
      texts.push_back(text_of(message.body) + " " + std::to_string(message.key.step));
    }
    return texts;
  }

  RecordingObserver observer;
  aggregator::Messenger messenger{1, 1, 4, 0, *this, observer};

 private:
  bool send(ConnectionId to, wire::Frames frames) override {
    auto sent = wire::decode(frames, {});
    REQUIRE(sent.has_value());
    outbox_.emplace_back(to, std::move(*sent));
    return true;
  }

  static std::string text_of(const wire::Body& body) {
    if (std::holds_alternative<wire::Gradients>(body)) return "Gradients";
    if (std::holds_alternative<wire::Outputs>(body)) return "Outputs";
    if (std::holds_alternative<wire::Receipt>(body)) return "Receipt";
    if (std::holds_alternative<wire::Refuse>(body)) return "Refuse";
    if (std::holds_alternative<wire::Evaluate>(body)) return "Evaluate";
    const auto* skip = std::get_if<wire::Skip>(&body);
    if (skip == nullptr) return "another message";
    return (skip->until_next_round ? "Out, " : "Skip, ") + skip->reason + ":";
  }

  std::vector<std::pair<ConnectionId, wire::Message>> outbox_;
};

}  // namespace tandem::testing
