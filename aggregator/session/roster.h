#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "tandem/core/base/ids.h"
#include "tandem/core/data/data_description.h"
#include "tandem/core/wire/messages.h"

namespace tandem::aggregator {

using TimePoint = std::chrono::steady_clock::time_point;

/// A reply that is kept so that a repeated request gets it again.
struct KeptReply {
  wire::MessageType request = wire::MessageType::kActivations;
  wire::MessageKey key;
  uint64_t payload_hash = 0;  ///< of the request
  wire::Message reply;
};

/// What the aggregator knows of one client. The record outlives connections, so a client that comes back
/// goes on with its examples where it was.
struct Member {
  ConnectionId connection;
  uint64_t instance = 0;
  DataDescription data;
  uint64_t held_out_examples = 0;
  /// The class count of the plan that it was sent last.
  int64_t welcomed_classes = 0;
  bool present = false;
  /// It fell silent when the run had too few clients to go on without it: its place in the round is kept.
  bool awaited = false;
  /// It left by itself: until its next Hello nothing of it counts.
  bool said_bye = false;
  /// It stopped and comes back to its place: until then it counts as there, like one that says nothing.
  bool paused = false;
  /// Weights went to it since its last Hello on this connection: they may have crossed its next one.
  bool weights_on_their_way = false;
  TimePoint last_heard;
  /// How long transfers to and from it have taken so far.
  TimePoint::duration transfer{};
  /// Examples of its endless sequence of epochs that rounds have planned so far.
  uint64_t position = 0;
  /// The last replies to requests, newest last; at most the window.
  std::deque<KeptReply> replies;
  int64_t bytes_up = 0;
  int64_t bytes_down = 0;
  bool took_part = false;
  /// Where its last Hello came from, for people; may be empty.
  std::string address;
  /// Other programs with its key that took over while one was there.
  int takeovers = 0;
  /// Rounds that it was in at their beginning and that were merged without it, though it did not leave.
  uint32_t lost_rounds = 0;
  /// Messages of it that made no sense, in this run.
  int offences = 0;
  /// Why nothing of it is taken any more; empty when it is.
  std::string quarantined;
};

/// Who belongs to the run. Clients are ordered by name. Not thread-safe.
class Roster {
 public:
  enum class Arrival {
    kNew,          ///< first time, or back after it left
    kReconnected,  ///< the same program instance on a new connection, or back to a place that was kept
    kReplaced,     ///< another program instance with the same key; the old connection is `previous`
  };
  struct Admission {
    Arrival arrival = Arrival::kNew;
    ConnectionId previous;
  };

  /// A Hello: creates or updates the record and makes `connection` the client's own.
  Admission admit(const ClientId& client, ConnectionId connection, uint64_t instance,
                  const DataDescription& data, TimePoint now);

  /// The record when `connection` is the client's present one, else null.
  Member* find(const ClientId& client, ConnectionId connection);
  Member* find(const ClientId& client);
  const Member* find(const ClientId& client) const;

  /// Gone; `awaited`: its place is kept.
  void depart(const ClientId& client, bool awaited = false);
  /// A member as a checkpoint has it.
  void restore(const ClientId& client, Member member);
  /// A member that fell silent, or that `restore` brought, is heard again on its connection: it is present.
  void return_to_place(const ClientId& client);

  std::vector<ClientId> present() const;
  /// How many are present.
  int present_count() const { return present_count_; }
  std::vector<ClientId> awaited() const;
  /// Clients that are present or awaited and from which nothing came since `since`.
  std::vector<ClientId> silent_since(TimePoint since) const;

  const std::map<ClientId, Member>& members() const { return members_; }

 private:
  /// Clients of which that holds, in order.
  template <class Predicate>
  std::vector<ClientId> those(Predicate holds) const;

  void set_present(Member& member, bool present);

  std::map<ClientId, Member> members_;
  int present_count_ = 0;
};

}  // namespace tandem::aggregator
