#pragma once

#include <chrono>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "tandem/core/base/endpoint.h"
#include "tandem/core/transport/name_lookup_detail.h"

/// Not installed; for ZmqClient and its tests.
namespace tandem::transport_detail {

/// The addresses at which a client tries its server, in cycles: a cycle looks the server's name up and goes
/// through all of its addresses once, the one that worked last first. libzmq itself is given addresses only,
/// because it would look names up on the thread that everything else of it waits for. Where a new lookup
/// takes longer than 2 s or fails, the addresses of the one before serve. Not thread-safe.
class ServerAddresses {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  /// `loopback_only`: other addresses are left out. `notify`: see NameLookup.
  ServerAddresses(TcpEndpoint server, bool loopback_only, std::function<void()> notify);

  /// Begins a cycle.
  void begin(TimePoint now);
  /// Whether the addresses of this cycle are known, or that there are none.
  bool ready(TimePoint now);
  /// When to ask ready() again even if nothing notifies; TimePoint::max(): never.
  TimePoint ask_again_at() const;
  /// The next address of this cycle; nullopt when there is none left. Requires ready().
  std::optional<TcpEndpoint> next();
  /// Whether next() has another one.
  bool has_more() const { return !left_.empty(); }
  /// Why this cycle has no address; empty when it has.
  const std::string& problem() const { return problem_; }
  /// The address that next() gave last is the server's.
  void worked() { good_ = current_; }

 private:
  void take(Result<std::vector<std::string>> found);
  void go_through(const std::vector<std::string>& hosts);

  const TcpEndpoint server_;
  const bool loopback_only_;
  const std::function<void()> notify_;
  std::optional<NameLookup> lookup_;
  TimePoint began_;
  bool ready_ = false;
  std::deque<std::string> left_;
  std::vector<std::string> known_;  // what the last lookup that succeeded found
  std::string current_;
  std::string good_;
  std::string problem_;
};

}  // namespace tandem::transport_detail
