#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <future>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <variant>

#include "tandem/core/base/ids.h"
#include "tandem/core/base/mailbox.h"
#include "tandem/core/transport/fault_injector.h"
#include "tandem/core/transport/fault_thread.h"
#include "tandem/core/transport/transport.h"

namespace tandem {

/// The aggregator's transport that disturbs the messages of another one. Each connection has a FaultInjector
/// with a stream of its own from its first message on; the faults depend on the seed, the client's name and
/// how many connections it had before. Everything passes a thread of its own, which calls the handlers and
/// hands messages to `inner`.
class FaultyServer : public ServerConnections {
 public:
  /// What is disturbed is said in the log at the start, and counted there at the end.
  FaultyServer(std::unique_ptr<ServerConnections> inner, const FaultOptions& options);
  /// Stops at once.
  ~FaultyServer() override;

  Result<void> start(ServerHandlers handlers) override;
  /// Any thread. Never waits: what faults delay stays in memory.
  bool send(ConnectionId to, wire::Frames frames) override;
  /// What faults delay has not come yet.
  void catch_up() override;
  /// Nothing is delayed any more: what waits to be sent is sent, and what came and waits is lost.
  void stop(std::chrono::milliseconds patience) override;
  void cut(ConnectionId connection) override { inner_->cut(connection); }
  void set_max_message_bytes(int64_t bytes) override { inner_->set_max_message_bytes(bytes); }

  /// What was done so far; complete once stopped. Any thread.
  FaultCounts counts() const { return thread_.published(); }

 private:
  using Clock = std::chrono::steady_clock;
  using TimePoint = FaultInjector::TimePoint;
  struct Outgoing {
    ConnectionId to;
    wire::Frames frames;
  };
  struct Revoked {
    ClientId client;
  };
  struct Link {
    ClientId client;
    std::chrono::milliseconds transfer;
  };
  /// Somebody waits until everything before it was taken in and passed on.
  struct Mark {
    std::shared_ptr<std::promise<void>> reached;
  };
  using Item = std::variant<ReceivedFrames, Outgoing, Revoked, Link, Mark>;
  struct Connection {
    Connection(const FaultOptions& options, uint64_t stream, TimePoint now, FaultCounts& counts)
        : injector(options, stream, now, counts), last_used(now) {}
    FaultInjector injector;
    ClientId client;
    std::string address;
    bool is_cut = false;
    TimePoint last_used;
  };

  void serve();
  void hand_over_the_rest();
  std::optional<Item> next_item();
  void take_in(Item item);
  void take_in_message(ReceivedFrames message);
  void take_in_outgoing(Outgoing message);
  Connection& connection_of(const ReceivedFrames& message, TimePoint now);
  void forget_idle(TimePoint now);
  void cut_when_due(TimePoint now);
  void pass_on(TimePoint in_until, TimePoint out_until);
  void deliver(ReceivedFrames message);

  const std::unique_ptr<ServerConnections> inner_;
  const FaultOptions options_;
  Mailbox<Item> inbox_{std::numeric_limits<size_t>::max()};
  std::mutex stop_mutex_;
  FaultThread thread_;

  // The thread's own, once it runs.
  ServerHandlers handlers_;
  std::map<ClientId, uint64_t> connections_of_client_;  // so far
  std::unordered_map<ConnectionId, Connection> connections_;
};

/// `inner`, with these faults; `inner` itself where there are none.
std::unique_ptr<ServerConnections> with_faults(std::unique_ptr<ServerConnections> inner,
                                               const FaultOptions& options);

}  // namespace tandem
