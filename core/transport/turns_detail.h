#pragma once

#include <condition_variable>
#include <cstdint>
#include <limits>
#include <mutex>

/// Not installed; for ZmqServer and its tests.
namespace tandem::transport_detail {

/// Lets other threads wait until a thread that works in turns has made one that began after they asked.
class Turns {
 public:
  /// Asks for a turn, for await(). Any thread, which then wakes the one that works.
  uint64_t ask() {
    const std::lock_guard lock(mutex_);
    return ++asked_;
  }
  /// Waits until that turn is over, or no turn follows any more. Any thread but the one that works.
  void await(uint64_t turn) {
    std::unique_lock lock(mutex_);
    ended_.wait(lock, [&] { return over_ >= turn; });
  }

  /// A turn begins: what it will have answered when it is over.
  uint64_t begin() {
    const std::lock_guard lock(mutex_);
    return asked_;
  }
  /// The turn that begin() gave is over.
  void end(uint64_t turn) {
    {
      const std::lock_guard lock(mutex_);
      if (over_ >= turn) return;
      over_ = turn;
    }
    ended_.notify_all();
  }
  /// No turn follows: nobody waits any more.
  void finish() { end(std::numeric_limits<uint64_t>::max()); }

 private:
  std::mutex mutex_;
  std::condition_variable ended_;
  uint64_t asked_ = 0;  // guarded by mutex_
  uint64_t over_ = 0;   // guarded by mutex_
};

}  // namespace tandem::transport_detail
