#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "tandem/core/base/result.h"

namespace tandem {

/// An exclusive advisory lock (flock) on a file that exists for nothing else and says in its text who holds
/// it. The kernel lets go of it when the process ends, however it ends; letting go in order also removes the
/// file.
class FileLock {
 public:
  /// kRefused while another process holds it: the message says which, as in "process 123 on host cam-1". kIo
  /// names the path. The directory must exist.
  static Result<FileLock> try_to_take(const std::filesystem::path& path);
  /// Waits until nobody else holds it. `on_wait` is told by whom it is held, before the waiting begins.
  static Result<FileLock> take(const std::filesystem::path& path,
                               const std::function<void(const std::string& holder)>& on_wait);

  FileLock(FileLock&&) noexcept;
  FileLock& operator=(FileLock&&) noexcept;
  ~FileLock();

 private:
  struct Impl;
  explicit FileLock(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace tandem
