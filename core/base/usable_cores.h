#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

namespace tandem {

/// The cores on which this process may compute, and what bounds them.
struct UsableCores {
  int count = 1;    ///< what to use: >= 1
  int machine = 1;  ///< cores of the machine that are switched on
  int affinity =
      1;  ///< cores that the scheduler gives this process (taskset, cpusets, `docker --cpuset-cpus`)
  std::optional<double>
      quota;  ///< cores' worth of time that its control groups allow (`docker --cpus`, CPUQuota=)
};

/// Looks at the machine, the affinity and the control groups of this process. A quota is rounded down: a
/// thread that the quota stops holds up all that wait for it. Any thread.
UsableCores usable_cores();

/// "2 of 2 cores", "1 of 8 cores (quota 1.50)", "2 of 8 cores (affinity)".
std::string to_string(const UsableCores& cores);

/// The smallest CPU quota of the control group of the process that reads and of all groups above it that are
/// visible, in cores; nullopt where there is none. Versions 1 and 2, also inside containers. `root` stands
/// for "/".
std::optional<double> control_group_quota(const std::filesystem::path& root = "/");

/// Returns the machine's memory in bytes, or the smallest limit of the same control groups where that is
/// less.
int64_t usable_memory(const std::filesystem::path& root = "/");

}  // namespace tandem
