#pragma once

#include <functional>
#include <map>
#include <mutex>
#include <string>

#include "tandem/aggregator/session/aggregator_session.h"
#include "tandem/core/base/mailbox.h"
#include "tandem/core/base/result.h"
#include "tandem/core/transport/transport.h"
#include "tandem/core/wire/message_codec.h"

namespace tandem::aggregator {

/// Joins a session to its transport: the transport's thread decodes messages into a bounded mailbox, the
/// thread that calls run() takes them out and trains.
class Aggregator {
 public:
  /// `transport` is the one that the session sends through, not started yet; both must outlive the
  /// aggregator.
  Aggregator(AggregatorSession& session, ServerConnections& transport, wire::Limits limits);
  /// Stops the transport at once.
  ~Aggregator();

  /// Lets clients in; the session hears of those who may no longer connect. kNetwork names the endpoint and
  /// the reason.
  Result<void> listen();

  /// Runs the session until it is done or `should_stop` says so (then it is stopped cleanly).
  /// `note` receives a line for a person every few seconds while the session waits for clients.
  void run(const std::function<bool()>& should_stop, std::function<void(const std::string&)> note = {});

 private:
  struct Inbound {
    ConnectionId connection;
    ClientId client;
    Result<wire::Message> message;
    int64_t bytes = 0;
    TimePoint received_at;  ///< by RunningClock
    std::string address = {};
    bool revoked = false;  ///< no message: its key was taken off the device list
  };

  /// What a device's connections showed since the session was told.
  struct Heard {
    TimePoint at;
    std::chrono::milliseconds transfer{0};
  };

  void note_heard(const ClientId& client, std::chrono::milliseconds transfer);
  void hand_over_heard();
  void tick_once_all_is_heard();
  void run_session(const std::function<bool()>& should_stop);
  void say_what_it_waits_for();
  void bound_messages();
  void log_undecodable(const ClientId& client, const Error& error);
  bool admit(const ClientId& client, int64_t bytes);
  int64_t release(const ClientId& client, int64_t bytes);
  void enqueue(ReceivedFrames received);
  void hand_over(Inbound inbound);

  AggregatorSession& session_;
  ServerConnections& transport_;
  wire::Limits limits_;
  /// Undecodable messages a client has sent, and when that was last logged: a flood of them must not
  /// become a flood of lines. One entry a listed client.
  struct Undecodable {
    uint64_t count = 0;
    TimePoint logged_at{};
  };
  std::map<ClientId, Undecodable> undecodable_;
  /// What waits for the trainer, by client: nobody can fill the memory or push the others out.
  struct Queued {
    int messages = 0;
    int64_t bytes = 0;
    int64_t dropped = 0;  ///< heartbeats aside
  };
  std::mutex queued_mutex_;
  std::map<ClientId, Queued> queued_;  // guarded by queued_mutex_
  std::mutex heard_mutex_;
  std::map<ClientId, Heard> heard_;  // guarded by heard_mutex_
  std::function<void(const std::string&)> note_;
  TimePoint last_notice_;
  bool messages_bounded_ = false;
  Mailbox<Inbound> inbox_;
};

}  // namespace tandem::aggregator
