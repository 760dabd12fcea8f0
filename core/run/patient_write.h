#pragma once

#include <chrono>
#include <functional>
#include <string>

#include "tandem/core/base/result.h"

namespace tandem {

/// Writes a result that exists nowhere else. Where the disk does not take it (kIo: full, read-only), tries
/// again until it does, and says through `say` at once and every ten seconds what it waits for. The error of
/// the last try when `should_stop`, or after `patience`: somebody who makes room in time loses nothing, and a
/// program that nobody watches still ends.
Result<void> write_patiently(const std::function<Result<void>()>& write,
                             const std::function<bool()>& should_stop,
                             const std::function<void(const std::string&)>& say,
                             std::chrono::seconds patience = std::chrono::minutes(10));

}  // namespace tandem
