#pragma once

#include <chrono>
#include <functional>
#include <future>
#include <mutex>
#include <thread>

#include "tandem/core/transport/fault_injector.h"

namespace tandem {

/// The thread of a transport that disturbs messages, and the counts of what it has done. Its owner starts and
/// joins it, and is called back on it.
class FaultThread {
 public:
  /// Says in the log what is disturbed.
  static void announce(const FaultOptions& options);

  /// Starts the thread. It calls `serve` once, which may throw, and then `end`, which must not; the counts
  /// are in the log after that.
  void start(std::function<void()> serve, std::function<void()> end);
  /// Whether it was started and not joined yet. For the owner's thread that starts and joins.
  bool running() const { return thread_.joinable(); }
  /// Waits until `end` has returned, or the deadline.
  void await(std::chrono::steady_clock::time_point deadline) {
    (void)flushed_.get_future().wait_until(deadline);
  }
  void join() { thread_.join(); }

  /// What was done so far. For `serve` and `end`.
  FaultCounts& counts() { return counts_; }
  /// Makes the counts visible to `published`. For `serve` and `end`.
  void publish();
  /// What was published last. Any thread.
  FaultCounts published() const;

 private:
  void run(const std::function<void()>& serve, const std::function<void()>& end);

  std::promise<void> flushed_;
  std::thread thread_;
  FaultCounts counts_;  // the thread's own
  mutable std::mutex mutex_;
  FaultCounts published_;  // guarded by mutex_
};

}  // namespace tandem
