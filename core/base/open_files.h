#pragma once

#include <cstdint>

namespace tandem {

/// Raises this process's limit of open files (RLIMIT_NOFILE, `ulimit -n`) to `wanted` where it is lower, as
/// far as the hard limit allows. Returns the limit from then on. Never lowers it. Any thread.
int64_t raise_open_files(int64_t wanted);

/// Opens /dev/null in the place of each of the descriptors 0 to 2 that is closed, as some supervisors leave
/// them. Otherwise the next file or socket would get the number, and what is meant for the log would go into
/// it. The first thing that a program does.
void open_standard_descriptors();

}  // namespace tandem
