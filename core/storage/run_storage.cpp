#include "tandem/core/storage/run_storage.h"

#include <system_error>
#include <utility>

namespace tandem {

Result<RunStorage> open_run_storage(const std::filesystem::path& directory,
                                    const std::filesystem::path& seal_key, CheckpointStoreOptions options) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) {
    return Error{ErrorCode::kIo, "cannot create --run-dir " + directory.string() + ": " + error.message()};
  }
  auto lock = RunLock::acquire(directory);
  if (!lock) return lock.error();
  options.directory = directory / "checkpoints";
  if (!seal_key.empty()) {
    auto key = load_seal_key(seal_key);
    if (!key) return key.error();
    options.seal_key = std::move(*key);
  }
  return RunStorage{std::move(*lock), CheckpointStore(std::move(options))};
}

}  // namespace tandem
