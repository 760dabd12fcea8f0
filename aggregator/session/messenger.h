#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "tandem/aggregator/session/roster.h"
#include "tandem/aggregator/session/run_observer.h"
#include "tandem/core/base/result.h"
#include "tandem/core/transport/transport.h"
#include "tandem/core/wire/frame.h"
#include "tandem/core/wire/messages.h"

namespace tandem::aggregator {

/// How the aggregator speaks with its clients: who they are, what was sent to them, the replies that are
/// kept for repeated requests, and the record of what happened. Not thread-safe.
class Messenger {
 public:
  /// `kept_replies`: of each client. `transport` and `observer` must outlive the messenger.
  /// `quarantine_after`: offences; 0 for never.
  Messenger(uint64_t run_id, uint32_t incarnation, size_t kept_replies, int quarantine_after,
            ServerTransport& transport, RunObserver& observer);

  Roster& roster() { return roster_; }
  const Roster& roster() const { return roster_; }

  /// To a client on its present connection. `round` and `step` go into the key.
  void send(const ClientId& client, wire::Body body, uint32_t round, uint32_t step = 0);
  /// The answer to a request, kept for a repeat of it.
  void reply(const ClientId& client, wire::MessageType request, uint64_t payload_hash, wire::Body body,
             uint32_t round, uint32_t step);
  /// Answers a repeated request with what was kept, or refuses it when it carries other data under the same
  /// key; false when it is no repeat.
  bool answer_repeat(const ClientId& client, const wire::Message& request);
  /// From now on messages wait for `release`, so that none leaves before what it rests on is on the disk.
  void hold() { holding_ = true; }
  void release();
  void refuse(ConnectionId connection, const wire::MessageKey& key, ErrorCode code, const std::string& reason,
              bool fatal);
  int64_t send_to(ConnectionId connection, const wire::Message& message);

  /// Another run or incarnation from here on.
  void identify(uint64_t run_id, uint32_t incarnation) {
    run_id_ = run_id;
    incarnation_ = incarnation;
  }
  wire::MessageKey key(uint32_t round, uint32_t step = 0) const;
  bool is_of_this_run(const wire::MessageKey& key) const;

  /// Events that follow belong to this round as people count, and every client may cause its share again.
  void begin_round(uint32_t ordinal);
  /// Records what happened; `client` is empty when it concerns none.
  void event(const std::string& name, const std::string& client, const std::string& detail);
  /// What a client sent made no sense: recorded as `event`, and held against it.
  void offence(const ClientId& client, const std::string& event, const std::string& reason);
  /// The same where the record is made elsewhere. Enough of them and it is to be quarantined, for that
  /// reason.
  void count_offence(const ClientId& client, const std::string& reason);
  /// Clients to quarantine, each named once.
  std::vector<ClientId> take_condemned() { return std::exchange(condemned_, {}); }
  void condemn(const ClientId& client, const std::string& reason);
  /// What the observer answered: its error ends the run.
  void observe(Result<void> outcome);
  /// The run cannot go on. The first reason stands.
  void fail(Error error);
  const std::optional<Error>& failure() const { return failure_; }

  RunObserver& observer() { return observer_; }
  void count_received(int64_t bytes) { bytes_up_ += bytes; }
  void count_refused() { ++refused_messages_; }
  int64_t bytes_up() const { return bytes_up_; }
  int64_t bytes_down() const { return bytes_down_; }
  uint64_t refused_messages() const { return refused_messages_; }

  /// What a checkpoint keeps: who belongs to the run, the kept replies (in `tensors`), the counters.
  nlohmann::json state(NamedTensors& tensors) const;
  /// The reverse: members are there but have no connection, and the replies are of this incarnation. Throws
  /// nlohmann's exceptions on anything else; kCorrupt names a reply that does not decode.
  Result<void> load_state(const nlohmann::json& state, const NamedTensors& tensors, TimePoint now);

 private:
  void dispatch(ConnectionId connection, wire::Frames frames);
  void send_message(const ClientId& client, const wire::Message& message);

  uint64_t run_id_;
  uint32_t incarnation_;
  size_t kept_replies_;
  int quarantine_after_;
  ServerTransport& transport_;
  RunObserver& observer_;
  Roster roster_;
  std::optional<Error> failure_;
  std::vector<ClientId> condemned_;
  bool holding_ = false;
  std::vector<std::pair<ConnectionId, wire::Frames>> held_;
  uint32_t ordinal_ = 0;
  std::map<std::string, int> events_in_round_;  // by client, or by kind
  int64_t bytes_up_ = 0;
  int64_t bytes_down_ = 0;
  uint64_t refused_messages_ = 0;
};

}  // namespace tandem::aggregator
