#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <variant>

#include "tandem/core/base/mailbox.h"
#include "tandem/core/transport/fault_injector.h"
#include "tandem/core/transport/fault_thread.h"
#include "tandem/core/transport/transport.h"

namespace tandem {

namespace transport_detail {
class KeepaliveTimer;
}

/// A client's transport that disturbs the messages of another one, its keepalives included. Each connection
/// has a FaultInjector with a stream of its own, so the faults depend on the seed, the name and how many
/// connections there were before. Everything passes a thread of its own, which calls the handler and hands
/// messages to `inner`.
class FaultyClient : public ClientConnection {
 public:
  /// `name`: the client's, or its key. What is disturbed is said in the log at the start, and counted there
  /// at the end.
  FaultyClient(std::unique_ptr<ClientConnection> inner, const FaultOptions& options, const std::string& name);
  /// Stops at once.
  ~FaultyClient() override;

  Result<void> start(Handler handler, Keepalive keepalive) override;
  /// Any thread. Never waits: what faults delay stays in memory.
  bool send(wire::Frames frames) override;
  LinkState link() const override { return inner_->link(); }
  /// Nothing is delayed any more: what waits to be sent is sent, and what came and waits is lost.
  void stop(std::chrono::milliseconds linger) override;
  void cut() override { inner_->cut(); }
  std::string doing() const override { return inner_->doing(); }

  /// What was done so far; complete once stopped. Any thread.
  FaultCounts counts() const { return thread_.published(); }

 private:
  using Clock = std::chrono::steady_clock;
  struct Outgoing {
    wire::Frames frames;
  };
  using Item = std::variant<ClientEvent, Outgoing>;

  void serve();
  void hand_over_the_rest();
  std::optional<Item> next_item();
  void take_in(Item item);
  void take_in_event(ClientEvent event);
  void begin_connection();
  void end_connection(Clock::time_point deliver_until);
  void pass_on(Clock::time_point now, Clock::time_point out_until);
  void send_keepalive(Clock::time_point now);
  void cut_when_due(Clock::time_point now);
  void deliver(ClientEvent event);

  const std::unique_ptr<ClientConnection> inner_;
  const FaultOptions options_;
  const uint64_t name_seed_;
  Mailbox<Item> inbox_{std::numeric_limits<size_t>::max()};
  std::mutex stop_mutex_;
  FaultThread thread_;

  // The thread's own, once it runs.
  Handler handler_;
  std::unique_ptr<transport_detail::KeepaliveTimer> keepalive_;
  std::optional<FaultInjector> injector_;  // of this connection
  uint64_t connections_ = 0;
  bool is_cut_ = false;  // inner_ has not told of the end of the connection yet
};

/// `inner`, with these faults; `inner` itself where there are none.
std::unique_ptr<ClientConnection> with_faults(std::unique_ptr<ClientConnection> inner,
                                              const FaultOptions& options, const std::string& name);

}  // namespace tandem
