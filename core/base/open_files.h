#pragma once

#include <cstdint>

namespace tandem {

/// Raises this process's limit of open files (RLIMIT_NOFILE, `ulimit -n`) to `wanted` where it is lower, as
/// far as the hard limit allows. Returns the limit from then on. Never lowers it. Any thread.
int64_t raise_open_files(int64_t wanted);

}  // namespace tandem
