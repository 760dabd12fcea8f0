#include "tandem/core/base/usable_cores.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <fstream>
#include <limits>
#include <sstream>
#include <vector>

namespace tandem {
namespace {

using Path = std::filesystem::path;

/// A mounted hierarchy of control groups that has a controller.
struct Hierarchy {
  bool version2 = false;
  std::string root;  ///< the group that is mounted
  std::string mounted_at;
};

std::vector<std::string> words(const std::string& text, char separator) {
  std::vector<std::string> list;
  std::istringstream stream(text);
  for (std::string word; std::getline(stream, word, separator);) list.push_back(word);
  return list;
}

bool names(const std::string& controllers, const std::string& controller) {
  const auto list = words(controllers, ',');
  return std::find(list.begin(), list.end(), controller) != list.end();
}

/// From lines like "30 23 0:26 /docker/ab /sys/fs/cgroup/cpu rw,nosuid - cgroup cgroup rw,cpu,cpuacct".
std::vector<Hierarchy> mounted_hierarchies(const Path& root, const std::string& controller) {
  std::vector<Hierarchy> found;
  std::ifstream mounts(root / "proc/self/mountinfo");
  for (std::string line; std::getline(mounts, line);) {
    const size_t dash = line.find(" - ");
    if (dash == std::string::npos) continue;
    const auto place = words(line.substr(0, dash), ' ');
    const auto type = words(line.substr(dash + 3), ' ');
    if (place.size() < 5 || type.size() < 3) continue;
    const bool version2 = type[0] == "cgroup2";
    if (version2 || (type[0] == "cgroup" && names(type[2], controller)))
      found.push_back({version2, place[3], place[4]});
  }
  return found;
}

/// From lines like "4:cpu,cpuacct:/docker/ab" and, for version 2, "0::/user.slice".
std::optional<std::string> own_group(const Path& root, const std::string& controller, bool version2) {
  std::ifstream groups(root / "proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    const size_t first = line.find(':');
    const size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    if (version2 ? controllers.empty() : names(controllers, controller)) return line.substr(second + 1);
  }
  return std::nullopt;
}

/// Where the own group is below the mount. Empty is the mount itself: in a container the group's name can be
/// one of the host that is not visible here.
Path below_mount(const std::string& group, const std::string& mounted_root) {
  const std::string prefix = mounted_root == "/" ? "" : mounted_root;
  if (!group.starts_with(prefix + "/") || group.find("..") != std::string::npos) return {};
  return Path(group.substr(prefix.size() + 1));
}

std::optional<double> quota_of(const Path& group, bool version2) {
  double quota = -1, period = 0;
  if (version2) {
    std::ifstream(group / "cpu.max") >> quota >> period;  // "max 100000" is no number
  } else {
    std::ifstream(group / "cpu.cfs_quota_us") >> quota;  // -1: none
    std::ifstream(group / "cpu.cfs_period_us") >> period;
  }
  if (!(quota > 0) || !(period > 0)) return std::nullopt;
  return quota / period;
}

std::optional<double> memory_of(const Path& group, bool version2) {
  double bytes = -1;  // "max" is no number
  std::ifstream(group / (version2 ? "memory.max" : "memory.limit_in_bytes")) >> bytes;
  return bytes > 0 ? std::optional(bytes) : std::nullopt;
}

/// The smallest limit of the own group and of all groups above it that are visible.
std::optional<double> smallest_limit(const Path& root, const std::string& controller,
                                     std::optional<double> (*limit_of)(const Path& group, bool version2)) {
  double smallest = std::numeric_limits<double>::infinity();
  for (const Hierarchy& hierarchy : mounted_hierarchies(root, controller)) {
    const auto group = own_group(root, controller, hierarchy.version2);
    if (!group) continue;
    Path place = root / Path(hierarchy.mounted_at).relative_path();
    smallest = std::min(smallest, limit_of(place, hierarchy.version2).value_or(smallest));
    for (const Path& name : below_mount(*group, hierarchy.root)) {
      place /= name;
      smallest = std::min(smallest, limit_of(place, hierarchy.version2).value_or(smallest));
    }
  }
  if (smallest == std::numeric_limits<double>::infinity()) return std::nullopt;
  return smallest;
}

}  // namespace

std::optional<double> control_group_quota(const Path& root) {
  return smallest_limit(root, "cpu", quota_of);
}

int64_t usable_memory(const Path& root) {
  const int64_t machine = int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGE_SIZE);
  const auto limit = smallest_limit(root, "memory", memory_of);
  return limit && *limit < static_cast<double>(machine) ? static_cast<int64_t>(*limit) : machine;
}

UsableCores usable_cores() {
  UsableCores cores;
  cores.machine = std::max(1, static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN)));
  cores.affinity = cores.machine;
  // A set of fixed size fails on machines with more cores than it has bits.
  constexpr size_t kMostCores = 1 << 16;
  std::vector<cpu_set_t> allowed(CPU_ALLOC_SIZE(kMostCores) / sizeof(cpu_set_t));
  const size_t bytes = allowed.size() * sizeof(cpu_set_t);
  if (sched_getaffinity(0, bytes, allowed.data()) == 0) cores.affinity = CPU_COUNT_S(bytes, allowed.data());
  cores.quota = control_group_quota();
  cores.count = std::max(1, cores.affinity);
  if (cores.quota) cores.count = std::clamp(static_cast<int>(std::min(*cores.quota, 1e6)), 1, cores.count);
  return cores;
}

std::string to_string(const UsableCores& cores) {
  const std::string text = std::to_string(cores.count) + " of " + std::to_string(cores.machine) +
                           (cores.machine == 1 ? " core" : " cores");
  if (cores.quota && cores.count < cores.affinity) {
    std::array<char, 32> quota{};
    std::snprintf(quota.data(), quota.size(), " (quota %.2f)", *cores.quota);
    return text + quota.data();
  }
  return cores.count < cores.machine ? text + " (affinity)" : text;
}

}  // namespace tandem
