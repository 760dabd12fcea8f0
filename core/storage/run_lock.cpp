#include "tandem/core/storage/run_lock.h"

#include <string>

namespace tandem {

Result<RunLock> RunLock::acquire(const std::filesystem::path& directory) {
  auto lock = FileLock::try_to_take(directory / "run.lock");
  if (lock) return RunLock(std::move(*lock));
  if (lock.error().code != ErrorCode::kRefused) return lock.error();
  return Error{ErrorCode::kRefused, directory.string() + " is in use by " + lock.error().message +
                                        " (run.lock is locked); stop it or choose another --run-dir"};
}

}  // namespace tandem
