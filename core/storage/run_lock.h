#pragma once

#include <filesystem>
#include <memory>

#include "tandem/core/base/result.h"

namespace tandem {

/// Holds a directory for one process at a time, by an advisory lock (flock) on the file `run.lock` in it,
/// which says who. The kernel lets go of it when the process ends, however it ends; letting go in order also
/// removes the file.
class RunLock {
 public:
  /// The directory must exist. kRefused names the process that holds it, kIo the path.
  static Result<RunLock> acquire(const std::filesystem::path& directory);

  RunLock(RunLock&&) noexcept;
  RunLock& operator=(RunLock&&) noexcept;
  ~RunLock();

 private:
  struct Impl;
  explicit RunLock(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace tandem
