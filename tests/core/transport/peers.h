// What the transport tests share: recorders for both ends' callbacks, with deadlines on every wait.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "tandem/core/base/mailbox.h"
#include "tandem/core/transport/zmq_client.h"
#include "tandem/core/transport/zmq_server.h"

namespace tandem::test {

using std::chrono::milliseconds;

inline constexpr std::chrono::seconds kPatience{20};

inline std::chrono::steady_clock::time_point soon(milliseconds wait = kPatience) {
  return std::chrono::steady_clock::now() + wait;
}

inline wire::Frames text_message(const std::string& text) {
  return {wire::Frame::own(text)};
}

inline std::string text_of(const wire::Frame& frame) {
  return {reinterpret_cast<const char*>(frame.data()), frame.size()};
}

/// Messages that reached the server.
class ServerInbox {
 public:
  ServerHandlers handler() {
    ServerHandlers handlers;
    handlers.on_message = [this](ReceivedFrames message) { messages_.try_push(std::move(message)); };
    return handlers;
  }
  std::optional<ReceivedFrames> next(milliseconds wait = kPatience) {
    return messages_.pop_until(soon(wait));
  }
  size_t size() const { return messages_.size(); }

 private:
  Mailbox<ReceivedFrames> messages_{100000};
};

/// Events of one client, kept in order.
class ClientEvents {
 public:
  ClientConnection::Handler handler() {
    return [this](ClientEvent event) {
      const std::lock_guard lock(mutex_);
      events_.push_back(std::move(event));
      changed_.notify_all();
    };
  }

  template <class Event>
  size_t count() const {
    const std::lock_guard lock(mutex_);
    return count_locked<Event>();
  }

  /// Waits until there were `count` events of this kind.
  template <class Event>
  bool wait_for(size_t count = 1, milliseconds wait = kPatience) {
    std::unique_lock lock(mutex_);
    return changed_.wait_until(lock, soon(wait), [&] { return count_locked<Event>() >= count; });
  }

  /// The n-th event of this kind, from 0. Requires that it is there.
  template <class Event>
  Event get(size_t n = 0) const {
    const std::lock_guard lock(mutex_);
    for (const ClientEvent& event : events_)
      if (std::holds_alternative<Event>(event) && n-- == 0) return std::get<Event>(event);
    throw std::out_of_range("no such event");
  }

  /// One letter an event: c(onnected), d(isconnected), f(ailed), r(eceived).
  std::string order() const {
    const std::lock_guard lock(mutex_);
    std::string letters;
    for (const ClientEvent& event : events_) letters += "cdfr"[event.index()];
    return letters;
  }

 private:
  template <class Event>
  size_t count_locked() const {
    size_t count = 0;
    for (const ClientEvent& event : events_) count += std::holds_alternative<Event>(event) ? 1 : 0;
    return count;
  }

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<ClientEvent> events_;
};

using client_event::Connected;
using client_event::Disconnected;
using client_event::HandshakeFailed;
using client_event::Received;

/// A server that listens, or why it does not.
inline Result<std::unique_ptr<ZmqServer>> start_server(const ZmqServerOptions& options,
                                                       ServerHandlers handlers) {
  auto server = ZmqServer::make(options);
  if (!server) return server;
  if (auto started = (*server)->start(std::move(handlers)); !started) return started.error();
  return server;
}

inline Result<std::unique_ptr<ZmqServer>> start_server(const ZmqServerOptions& options,
                                                       std::function<void(ReceivedFrames)> on_message) {
  ServerHandlers handlers;
  handlers.on_message = std::move(on_message);
  return start_server(options, std::move(handlers));
}

/// A client that connects, or why it does not.
inline Result<std::unique_ptr<ZmqClient>> start_client(const ZmqClientOptions& options,
                                                       ClientConnection::Handler handler,
                                                       Keepalive keepalive = {}) {
  auto client = ZmqClient::make(options);
  if (!client) return client;
  if (auto started = (*client)->start(std::move(handler), std::move(keepalive)); !started)
    return started.error();
  return client;
}

/// A server's keys and one listed device.
struct Fleet {
  KeyPair server = generate_key_pair();
  KeyPair device = generate_key_pair();

  ZmqServerOptions server_options(const std::string& endpoint = "tcp://127.0.0.1:*") const {
    return {.endpoint = endpoint, .keys = server, .devices = {{device.public_key, ClientId{"cam-1"}}}};
  }
  ZmqClientOptions client_options(const std::string& endpoint) const {
    ZmqClientOptions options;
    options.endpoint = endpoint;
    options.server_public_key = server.public_key;
    options.keys = device;
    options.reconnect_first = milliseconds(20);
    options.reconnect_max = milliseconds(100);
    return options;
  }
};

inline ZmqServerOptions insecure_server() {
  return {.endpoint = "tcp://127.0.0.1:*", .insecure = true};
}

inline ZmqClientOptions insecure_client(const std::string& endpoint, const std::string& name) {
  ZmqClientOptions options;
  options.endpoint = endpoint;
  options.insecure = true;
  options.insecure_name = name;
  options.reconnect_first = milliseconds(20);
  options.reconnect_max = milliseconds(100);
  return options;
}

}  // namespace tandem::test
