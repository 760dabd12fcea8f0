#include "tandem/core/base/open_files.h"

#include <fcntl.h>
#include <sys/resource.h>

#include <algorithm>
#include <cerrno>
#include <limits>

namespace tandem {
namespace {

int64_t as_number(rlim_t limit) {
  constexpr auto kMost = std::numeric_limits<int64_t>::max();
  return limit == RLIM_INFINITY ? kMost : static_cast<int64_t>(std::min<rlim_t>(limit, kMost));
}

}  // namespace

int64_t raise_open_files(int64_t wanted) {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
    return std::numeric_limits<int64_t>::max();  // accept() will tell
  if (as_number(limit.rlim_cur) >= wanted) return as_number(limit.rlim_cur);
  rlimit raised = limit;
  raised.rlim_cur = static_cast<rlim_t>(std::min(wanted, as_number(limit.rlim_max)));
  return as_number(setrlimit(RLIMIT_NOFILE, &raised) == 0 ? raised.rlim_cur : limit.rlim_cur);
}

void open_standard_descriptors() {
  for (int descriptor = 0; descriptor <= 2; ++descriptor) {
    if (fcntl(descriptor, F_GETFD) >= 0 || errno != EBADF) continue;
    // The lowest free number is this one: all below are open.
    if (open("/dev/null", descriptor == 0 ? O_RDONLY : O_WRONLY) < 0) return;
  }
}

}  // namespace tandem
