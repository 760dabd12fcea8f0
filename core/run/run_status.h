#pragma once

#include <atomic>
#include <chrono>
#include <mutex>
#include <string>

#include "tandem/core/run/metrics.h"

namespace tandem {

/// How a program is doing: what its main loop writes and a status endpoint tells. Any thread.
class RunStatus {
 public:
  using Clock = std::chrono::steady_clock;

  struct Answer {
    bool good = false;
    std::string reason;  ///< one line, also where all is well
  };

  /// `program` and the version become tandem_build_info. Without a beat() for `stall_after` the program does
  /// not count as alive; being made is the first one.
  RunStatus(const std::string& program, std::chrono::milliseconds stall_after);

  /// The main loop has come round. Cheap enough for every turn of it.
  void beat() { last_beat_.store(Clock::now().time_since_epoch().count(), std::memory_order_relaxed); }
  /// Whether the program can do its work now; `what_it_waits_for` is one line, empty when it can.
  void set_waiting_for(const std::string& what_it_waits_for);

  Answer alive(Clock::time_point now = Clock::now()) const;
  Answer ready() const;

  Metrics& metrics() { return metrics_; }
  /// The metrics with the process' own figures of this moment.
  std::string metrics_text();

 private:
  std::chrono::milliseconds stall_after_;
  std::atomic<Clock::rep> last_beat_;
  mutable std::mutex mutex_;
  std::string waiting_for_ = "the program is starting";  // guarded by mutex_
  Metrics metrics_;
};

}  // namespace tandem
