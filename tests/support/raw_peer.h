#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "tandem/core/base/mailbox.h"
#include "tandem/core/transport/zmq_client.h"
#include "tandem/core/wire/message_codec.h"

namespace tandem::testing {

/// A device that speaks the protocol by hand, over a real encrypted socket.
class RawPeer {
 public:
  RawPeer(const std::string& endpoint, const std::string& server_key, const KeyPair& keys) : inbox_(1024) {
    client_ = ZmqClient::make({.endpoint = endpoint, .server_public_key = server_key, .keys = keys}).value();
    client_->start([this](ClientEvent event) { inbox_.push(std::move(event)); }, {}).value();
  }
  ~RawPeer() {
    inbox_.close();
    client_.reset();
  }

  bool wait_connected(std::chrono::seconds timeout = std::chrono::seconds(10)) {
    const auto deadline = std::chrono::steady_clock::now() + timeout;
    while (auto event = inbox_.pop_until(deadline)) {
      if (std::holds_alternative<client_event::Connected>(*event)) return true;
    }
    return false;
  }

  void send(wire::Frames frames) { client_->send(std::move(frames)); }
  void send(const wire::Message& message) { send(wire::encode(message)); }

  /// The next message of that kind, others are passed over; nothing after the timeout.
  template <class T>
  std::optional<std::pair<wire::MessageKey, T>> await(
      std::chrono::seconds timeout = std::chrono::seconds(10)) {
    const auto deadline = std::chrono::steady_clock::now() + timeout;
    while (auto event = inbox_.pop_until(deadline)) {
      const auto* received = std::get_if<client_event::Received>(&*event);
      if (received == nullptr) continue;
      auto message = wire::decode(received->frames, {});
      if (!message) continue;
      if (T* body = std::get_if<T>(&message->body)) return std::pair{message->key, std::move(*body)};
    }
    return std::nullopt;
  }

  /// Drops what has arrived.
  void drain() {
    while (inbox_.try_pop()) {
    }
  }

 private:
  Mailbox<ClientEvent> inbox_;
  std::unique_ptr<ZmqClient> client_;
};

}  // namespace tandem::testing
