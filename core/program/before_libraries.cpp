// Linked into programs only (tandem_add_program): what has to happen before LibTorch and what it loads are
// initialised.
#include <sys/auxv.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <string>
#include <vector>

#include "tandem/core/base/address_space.h"

namespace tandem {
namespace {

void refuse_small_address_space(const char* program, char* const* environment) {
  const auto checked = check_address_space(blas_threads_at_load(environment));
  if (checked) return;
  const char* slash = std::strrchr(program, '/');
  const std::string line =
      std::string(slash != nullptr ? slash + 1 : program) + ": " + checked.error().message + "\n";
  (void)!write(STDERR_FILENO, line.data(), line.size());
  _exit(1);
}

/// OpenMP's threads spin while they wait for work, unless the environment says otherwise at the moment when
/// the library is initialised. On a machine that others use as well, such as an aggregator beside its edges,
/// spinning takes the core from whom the others wait for. So the program starts itself once more, with the
/// policy set; what the user has set is left as it is. Where that is not possible, it goes on as it is.
void sleep_while_waiting(char* const* arguments, char* const* environment) {
  for (const char* name : {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"}) {
    if (environment_value(name, environment) != nullptr) return;
  }
  // Started as an argument of the dynamic loader, /proc/self/exe is the loader.
  if (getauxval(AT_BASE) == 0 || getauxval(AT_SECURE) != 0) return;
  std::array<char, 4096> program{};
  if (readlink("/proc/self/exe", program.data(), program.size() - 1) <= 0) return;
  std::vector<char*> with_policy;
  for (; *environment != nullptr; ++environment) with_policy.push_back(*environment);
  std::string policy = "OMP_WAIT_POLICY=PASSIVE";
  with_policy.push_back(policy.data());
  with_policy.push_back(nullptr);
  execve(program.data(), arguments, with_policy.data());
}

void before_libraries(int count, char** arguments, char** environment) {
  refuse_small_address_space(count > 0 ? arguments[0] : "tandem", environment);
  sleep_while_waiting(arguments, environment);
}

__attribute__((section(".preinit_array"), used)) void (*const hook)(int, char**, char**) = before_libraries;

}  // namespace
}  // namespace tandem
