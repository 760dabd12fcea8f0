// What saving a checkpoint costs, and where the time goes.
//
//   checkpoint_save [DIR] [SAVES]      DIR (default .) is on the disk to be measured
#include <ATen/ATen.h>
#include <time.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "tandem/core/storage/atomic_file.h"
#include "tandem/core/storage/checkpoint.h"
#include "tandem/core/storage/safetensors.h"
#include "tandem/core/storage/storage_syscalls_detail.h"

using namespace tandem;
namespace fs = std::filesystem;

namespace {

using Clock = std::chrono::steady_clock;

double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

/// What this process computed, which other processes on the machine do not lengthen as they do the time.
double cpu_ms() {
  timespec time{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) * 1e3 + static_cast<double>(time.tv_nsec) / 1e6;
}

/// Time in system calls since it was last set to zero.
double write_ms = 0;
double sync_ms = 0;
double unlink_ms = 0;

template <class Call>
auto timed(double& total, Call call) {
  const auto start = Clock::now();
  const auto result = call();
  total += ms_since(start);
  return result;
}

void time_system_calls() {
  StorageSyscalls& calls = storage_syscalls();
  calls.write = [](int file, const void* bytes, size_t count) {
    return timed(write_ms, [&] { return kKernelSyscalls.write(file, bytes, count); });
  };
  calls.fdatasync = [](int file) { return timed(sync_ms, [&] { return kKernelSyscalls.fdatasync(file); }); };
  calls.fsync = [](int file) { return timed(sync_ms, [&] { return kKernelSyscalls.fsync(file); }); };
  calls.unlink = [](const char* path) {
    return timed(unlink_ms, [&] { return kKernelSyscalls.unlink(path); });
  };
}

/// 20 large tensors, the weights, and 200 small ones.
Checkpoint checkpoint_of(int64_t bytes) {
  Checkpoint checkpoint{.position = {1, 0}};
  for (int i = 0; i < 220; ++i) {
    const int64_t elements = i < 20 ? bytes / 4 / 20 : 16;
    checkpoint.tensors.push_back({std::to_string(i) + ".weight", at::rand({elements})});
  }
  return checkpoint;
}

void measure(const char* kind, CheckpointStore& store, int64_t bytes, int saves) {
  constexpr int kWarmUp = 3;
  Checkpoint checkpoint = checkpoint_of(bytes);
  std::vector<double> times;
  double cpu = 0;
  for (int i = 0; i < kWarmUp + saves; ++i) {
    if (i == kWarmUp) write_ms = sync_ms = unlink_ms = 0;
    if (i == kWarmUp) cpu = -cpu_ms();
    ++checkpoint.position.step;
    const auto start = Clock::now();
    store.save(checkpoint).value();
    if (i >= kWarmUp) times.push_back(ms_since(start));
  }
  cpu += cpu_ms();
  std::nth_element(times.begin(), times.begin() + saves / 2, times.end());
  const double median = times[static_cast<size_t>(saves / 2)];
  std::printf(
      "%3d MB %-6s  median %7.2f ms, %5.0f MB/s; mean: CPU %.2f, write %.2f, sync %.2f, unlink %.2f ms\n",
      static_cast<int>(bytes / 1'000'000), kind, median, static_cast<double>(bytes) / 1000 / median,
      cpu / saves, write_ms / saves, sync_ms / saves, unlink_ms / saves);
}

void measure_parts(int64_t bytes) {
  const Checkpoint checkpoint = checkpoint_of(bytes);
  double begin = cpu_ms();
  const std::string copy = serialize_safetensors({checkpoint.tensors, checkpoint.metadata});
  const double copy_ms = cpu_ms() - begin;
  begin = cpu_ms();
  sha256_hex({copy});
  std::printf("%3d MB alone: CPU of SHA-256 %.2f ms, of a copy to one string %.2f ms\n",
              static_cast<int>(bytes / 1'000'000), cpu_ms() - begin, copy_ms);
}

}  // namespace

int main(int argc, char** argv) {
  std::string name = (fs::path(argc > 1 ? argv[1] : ".") / "checkpoint_save_XXXXXX").string();
  const int most = argc > 2 ? std::max(3, std::atoi(argv[2])) : 30;
  if (::mkdtemp(name.data()) == nullptr) return std::perror(name.c_str()), 1;
  time_system_calls();
  for (const int64_t bytes : {4'000'000, 64'000'000}) {
    const int saves = bytes > 10'000'000 ? most / 3 : most;
    const fs::path folder = fs::path(name) / std::to_string(bytes);
    measure_parts(bytes);
    CheckpointStore plain(folder / "plain");
    measure("plain", plain, bytes, saves);
    CheckpointStore sealed(
        CheckpointStoreOptions{.directory = folder / "sealed", .seal_key = generate_seal_key()});
    measure("sealed", sealed, bytes, saves);
  }
  fs::remove_all(name);
  return 0;
}
