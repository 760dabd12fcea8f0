#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <tuple>

#include "tandem/core/base/mailbox.h"
#include "tandem/core/base/result.h"
#include "tandem/core/transport/transport.h"
#include "tandem/core/wire/message_codec.h"
#include "tandem/edge_client/session/edge_session.h"

namespace tandem::edge_client {

/// Joins a session to its transport: the transport's thread puts what happens into a bounded mailbox and
/// sends heartbeats, the thread that calls run() takes it out, decodes the messages and trains.
class EdgeClient {
 public:
  struct Options {
    /// The aggregator's, for lines that a person reads.
    std::string endpoint;
    wire::Limits limits;
    /// Stop with an error after so long without an aggregator; zero never does.
    std::chrono::milliseconds give_up_after{0};
    /// Failed handshakes in a row after which to stop: the keys do not fit, waiting will not help.
    int max_handshake_failures = 3;
  };

  /// `transport` is the one that the session sends through, not started yet; both must outlive the client.
  /// `note` receives lines for a person.
  EdgeClient(EdgeSession& session, ClientConnection& transport, Options options,
             std::function<void(const std::string&)> note);
  /// Stops the transport at once.
  ~EdgeClient();

  /// Connects and runs the session until it is done, `should_stop` says so (then it leaves cleanly), or the
  /// aggregator cannot be reached or trusted. Returns the session's failure or the transport's.
  Result<void> run(const std::function<bool()>& should_stop);
  /// Whether the connection stands. On the thread of run(), `should_stop` included.
  bool connected() const { return connected_; }

 private:
  void enqueue(ClientEvent event);
  void handle(ClientEvent event);
  void handle_frames(const wire::Frames& frames);
  void say_what_it_waits_for(TimePoint now);
  void say_what_the_session_waits_for(TimePoint now);
  void say_goodbye();

  using Progress = std::tuple<EdgeSession::Phase, uint32_t, uint32_t>;  // with round and steps

  EdgeSession& session_;
  ClientConnection& transport_;
  Options options_;
  std::function<void(const std::string&)> note_;
  bool connected_ = false;
  bool was_connected_ = false;
  int handshake_failures_ = 0;
  std::string last_failure_;
  std::optional<Error> failure_;
  TimePoint disconnected_since_;
  TimePoint last_notice_;
  Progress progress_;
  Mailbox<ClientEvent> inbox_;
};

}  // namespace tandem::edge_client
