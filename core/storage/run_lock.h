#pragma once

#include <filesystem>
#include <utility>

#include "tandem/core/base/result.h"
#include "tandem/core/storage/file_lock.h"

namespace tandem {

/// Holds a directory for one process at a time, by a FileLock named `run.lock` in it.
class RunLock {
 public:
  /// The directory must exist. kRefused names the process that holds it, kIo the path.
  static Result<RunLock> acquire(const std::filesystem::path& directory);

 private:
  explicit RunLock(FileLock lock) : lock_(std::move(lock)) {}

  FileLock lock_;
};

}  // namespace tandem
