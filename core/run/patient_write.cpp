#include "tandem/core/run/patient_write.h"

#include <thread>

namespace tandem {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kBetweenTries{200};
constexpr std::chrono::seconds kBetweenLines{10};

}  // namespace

Result<void> write_patiently(const std::function<Result<void>()>& write,
                             const std::function<bool()>& should_stop,
                             const std::function<void(const std::string&)>& say,
                             std::chrono::seconds patience) {
  const auto begun = Clock::now();
  auto next_line = begun;
  for (;;) {
    auto written = write();
    if (written || written.error().code != ErrorCode::kIo) return written;
    const auto now = Clock::now();
    if (should_stop() || now - begun >= patience) return written;
    if (now >= next_line) {
      next_line = now + kBetweenLines;
      const auto left = std::chrono::ceil<std::chrono::seconds>(patience - (now - begun));
      say("waiting for the disk, for " + std::to_string(left.count()) +
          " s more or until a signal: " + written.error().message);
    }
    std::this_thread::sleep_for(kBetweenTries);
  }
}

}  // namespace tandem
