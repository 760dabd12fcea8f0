#pragma once

#include <functional>
#include <string>

#include "tandem/core/base/result.h"
#include "tandem/core/run/log.h"

namespace tandem {

/// Runs a program's body as every Tandem program runs: compute threads and logs configured, a warning where
/// the slow reference BLAS is loaded, an Error printed as one line to stderr, exceptions that escaped
/// likewise. Returns the exit status: the body's, kExitUsage for kInvalidArgument, kExitFailed for other
/// errors.
int run_program(const std::string& name, int threads, const std::function<Result<int>()>& body,
                LogFormat format = LogFormat::kText);

}  // namespace tandem
