#include "tandem/core/base/running_clock.h"

#include <mutex>

namespace tandem {

RunningTime::time_point RunningClock::now() {
  static std::mutex mutex;
  static RunningTime time(std::chrono::steady_clock::now());
  const std::lock_guard lock(mutex);
  return time.at(std::chrono::steady_clock::now());
}

}  // namespace tandem
