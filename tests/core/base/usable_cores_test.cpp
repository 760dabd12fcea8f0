#include "tandem/core/base/usable_cores.h"

#include <sched.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
//
#include "support/test.h"

using namespace tandem;

namespace {

/// A folder that stands for "/", with what a process sees there of its control groups.
class Root {
 public:
  Root() : path_(std::filesystem::temp_directory_path() / ("tandem-cores-" + std::to_string(getpid()))) {
    std::filesystem::remove_all(path_);
  }
  ~Root() { std::filesystem::remove_all(path_); }
  Root(const Root&) = delete;
  Root& operator=(const Root&) = delete;

  void write(const std::string& file, const std::string& text) const {
    std::filesystem::create_directories((path_ / file).parent_path());
    std::ofstream(path_ / file) << text;
  }
  std::optional<double> quota() const { return control_group_quota(path_); }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

constexpr const char* kVersion2 =
    "23 1 0:21 / /proc rw,nosuid - proc proc rw\n"
    "31 23 0:27 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";

class Affinity {
 public:
  explicit Affinity(int core) {
    REQUIRE(sched_getaffinity(0, sizeof before_, &before_) == 0);
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(core, &one);
    REQUIRE(sched_setaffinity(0, sizeof one, &one) == 0);
  }
  ~Affinity() { sched_setaffinity(0, sizeof before_, &before_); }
  Affinity(const Affinity&) = delete;
  Affinity& operator=(const Affinity&) = delete;

 private:
  cpu_set_t before_{};
};

}  // namespace

TEST_SUITE("core/base/usable_cores") {
  TEST_CASE("without control groups, or without a limit in them, there is no quota") {
    Root root;
    CHECK_FALSE(root.quota());
    root.write("proc/self/mountinfo", kVersion2);
    root.write("proc/self/cgroup", "0::/user.slice\n");
    CHECK_FALSE(root.quota());
    root.write("sys/fs/cgroup/user.slice/cpu.max", "max 100000\n");
    CHECK_FALSE(root.quota());
  }

  TEST_CASE("version 2: the smallest quota of the own group and those above it") {
    Root root;
    root.write("proc/self/mountinfo", kVersion2);
    root.write("proc/self/cgroup", "0::/tandem.slice/edges/cam-1\n");
    root.write("sys/fs/cgroup/tandem.slice/edges/cam-1/cpu.max", "400000 100000\n");
    CHECK(root.quota() == 4.0);
    root.write("sys/fs/cgroup/tandem.slice/edges/cpu.max", "max 100000\n");
    root.write("sys/fs/cgroup/tandem.slice/cpu.max", "75000 50000\n");
    CHECK(root.quota() == 1.5);
    root.write("sys/fs/cgroup/other/cpu.max", "10000 100000\n");
    CHECK(root.quota() == 1.5);
  }

  TEST_CASE("version 2 in a container: its own group is what is mounted") {
    Root root;
    root.write("proc/self/mountinfo", kVersion2);
    root.write("proc/self/cgroup", "0::/\n");
    root.write("sys/fs/cgroup/cpu.max", "50000 100000\n");
    CHECK(root.quota() == 0.5);
  }

  TEST_CASE("version 1: the hierarchy with the controller cpu, also where a part of it is mounted") {
    Root root;
    root.write("proc/self/mountinfo",
               "33 31 0:29 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
               "34 31 0:30 /docker/ab /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n");
    root.write("proc/self/cgroup", "5:cpuset:/\n4:cpu,cpuacct:/docker/ab/inner\n0::/\n");
    const std::string mounted = "sys/fs/cgroup/cpu,cpuacct/";
    root.write(mounted + "cpu.cfs_quota_us", "300000\n");
    root.write(mounted + "cpu.cfs_period_us", "100000\n");
    CHECK(root.quota() == 3.0);
    root.write(mounted + "inner/cpu.cfs_quota_us", "-1\n");
    root.write(mounted + "inner/cpu.cfs_period_us", "100000\n");
    CHECK(root.quota() == 3.0);
    root.write(mounted + "inner/cpu.cfs_quota_us", "200000\n");
    CHECK(root.quota() == 2.0);
    // Seen from another namespace, the group's name says nothing about what is mounted.
    root.write("proc/self/cgroup", "4:cpu,cpuacct:/../cd\n");
    CHECK(root.quota() == 3.0);
  }

  TEST_CASE(
      "memory: the smallest limit of the own group and those above it, and never more than the machine's") {
    Root root;
    const int64_t machine = usable_memory(root.path());
    CHECK(machine > 1 << 20);
    root.write("proc/self/mountinfo", kVersion2);
    root.write("proc/self/cgroup", "0::/tandem.slice/cam-1\n");
    root.write("sys/fs/cgroup/tandem.slice/cam-1/memory.max", "max\n");
    CHECK(usable_memory(root.path()) == machine);
    root.write("sys/fs/cgroup/tandem.slice/memory.max", "1000000\n");
    CHECK(usable_memory(root.path()) == 1'000'000);
    root.write("sys/fs/cgroup/tandem.slice/memory.max", "9000000000000000\n");
    CHECK(usable_memory(root.path()) == machine);
    root.write("proc/self/mountinfo", "34 31 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n");
    root.write("proc/self/cgroup", "4:memory:/docker/ab\n");
    root.write("sys/fs/cgroup/memory/docker/ab/memory.limit_in_bytes", "2000000\n");
    CHECK(usable_memory(root.path()) == 2'000'000);
  }

  TEST_CASE("cores that the scheduler does not give are not counted") {
    const UsableCores before = usable_cores();
    CHECK(before.count >= 1);
    CHECK(before.count <= before.affinity);
    CHECK(before.affinity <= before.machine);
    cpu_set_t allowed;
    REQUIRE(sched_getaffinity(0, sizeof allowed, &allowed) == 0);
    int first = 0;
    while (!CPU_ISSET(first, &allowed)) ++first;
    const Affinity one(first);
    CHECK(usable_cores().affinity == 1);
    CHECK(usable_cores().count == 1);
  }

  TEST_CASE("what was taken is said, with what bounds it") {
    CHECK(to_string({.count = 2, .machine = 2, .affinity = 2, .quota = {}}) == "2 of 2 cores");
    CHECK(to_string({.count = 1, .machine = 1, .affinity = 1, .quota = 1.0}) == "1 of 1 core");
    CHECK(to_string({.count = 2, .machine = 8, .affinity = 2, .quota = {}}) == "2 of 8 cores (affinity)");
    CHECK(to_string({.count = 1, .machine = 8, .affinity = 8, .quota = 1.5}) == "1 of 8 cores (quota 1.50)");
  }
}
