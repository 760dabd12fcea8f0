#include "tandem/core/run/run_status.h"

#include "tandem/core/base/version.h"
#include "tandem/core/run/progress_format_detail.h"

namespace tandem {

RunStatus::RunStatus(const std::string& program, std::chrono::milliseconds stall_after)
    : stall_after_(stall_after) {
  beat();
  declare_process_metrics(metrics_);
  metrics_.declare("tandem_build_info", Metrics::Kind::kGauge,
                   "Always 1; the labels say which program this is.");
  metrics_.set("tandem_build_info", 1, {{"program", program}, {"version", kVersion}});
}

void RunStatus::set_waiting_for(const std::string& what_it_waits_for) {
  const std::lock_guard lock(mutex_);
  waiting_for_ = what_it_waits_for;
}

RunStatus::Answer RunStatus::alive(Clock::time_point now) const {
  const Clock::time_point last{Clock::duration(last_beat_.load(std::memory_order_relaxed))};
  const auto silent = std::chrono::duration_cast<std::chrono::milliseconds>(now - last);
  if (now - last <= stall_after_) return {true, "alive"};
  return {false, "the main loop has shown no sign of life for " +
                     detail::format_fixed(silent.count() / 1e3, 1) + " s, allowed are " +
                     detail::format_fixed(stall_after_.count() / 1e3, 1) +
                     " s (stall-after of --status-endpoint)"};
}

RunStatus::Answer RunStatus::ready() const {
  const std::lock_guard lock(mutex_);
  if (waiting_for_.empty()) return {true, "ready"};
  return {false, waiting_for_};
}

std::string RunStatus::metrics_text() {
  update_process_metrics(metrics_);
  return metrics_.prometheus_text();
}

}  // namespace tandem
