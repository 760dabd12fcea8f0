#include "tandem/core/base/address_space.h"

#include <link.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <cstring>

namespace tandem {
namespace {

constexpr size_t kMiB = size_t{1} << 20;
constexpr size_t kBufferOfThread = 128 * kMiB;
/// Buffers of the calling threads, stacks, the allocator's arenas, and a small model's training.
constexpr size_t kBesides = 512 * kMiB;

bool openblas_is_loaded() {
  const auto visit = [](dl_phdr_info* object, size_t, void*) {
    return std::strstr(object->dlpi_name, "openblas") != nullptr ? 1 : 0;
  };
  return dl_iterate_phdr(visit, nullptr) != 0;
}

bool can_map(size_t bytes) {
  void* const mapped = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) return false;
  munmap(mapped, bytes);
  return true;
}

}  // namespace

const char* environment_value(std::string_view name, char* const* environment) {
  for (; *environment != nullptr; ++environment) {
    const std::string_view entry(*environment);
    if (entry.starts_with(name) && entry.substr(name.size()).starts_with('='))
      return *environment + name.size() + 1;
  }
  return nullptr;
}

int blas_threads_at_load(char* const* environment) {
  const int cores = std::max(1, static_cast<int>(sysconf(_SC_NPROCESSORS_CONF)));
  for (const char* name : {"OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"}) {
    const char* value = environment_value(name, environment);
    const int asked = value != nullptr ? std::atoi(value) : 0;
    if (asked > 0) return std::min(asked, cores);
  }
  return cores;
}

Result<void> check_address_space(int more_threads) {
  rlimit limit{};
  if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY || !openblas_is_loaded())
    return {};
  const size_t needed = static_cast<size_t>(more_threads) * kBufferOfThread + kBesides;
  if (can_map(needed)) return {};
  return Error{ErrorCode::kUnsupported,
               "the limit of address space, " + std::to_string(limit.rlim_cur / kMiB) +
                   " MiB (ulimit -v, LimitAS=), " + "leaves less than the " + std::to_string(needed / kMiB) +
                   " MiB that OpenBLAS with " + std::to_string(more_threads) +
                   " more thread(s) and a training need; raise it, or take fewer " +
                   "threads: OMP_NUM_THREADS=1 and --threads 1"};
}

Result<void> check_address_space_after_load(int threads) {
  return check_address_space(std::max(0, threads - blas_threads_at_load(environ)));
}

}  // namespace tandem
