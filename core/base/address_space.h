#pragma once

#include <string_view>

#include "tandem/core/base/result.h"

namespace tandem {

/// For how many threads OpenBLAS maps buffers when it is loaded: the machine's cores, or fewer by
/// OPENBLAS_NUM_THREADS or OMP_NUM_THREADS in the environment.
int blas_threads_at_load(char* const* environment);

/// OpenBLAS maps 128 MiB for each of its threads and, where the limit of address space (RLIMIT_AS: `ulimit
/// -v`, LimitAS=) leaves no room for that, tries again for ever. kUnsupported, with what to do, where the
/// limit leaves too little for this many threads more and for what every training needs besides. All is well
/// without a limit, or with another BLAS. Works before libraries are initialised, too.
Result<void> check_address_space(int more_threads);

/// The same once libraries are initialised, for `threads` in all.
Result<void> check_address_space_after_load(int threads);

/// The variable's value, or nullptr; for where getenv does not work yet.
const char* environment_value(std::string_view name, char* const* environment);

}  // namespace tandem
