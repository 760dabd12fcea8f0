#pragma once

#include <filesystem>

#include "tandem/core/base/result.h"
#include "tandem/core/storage/checkpoint.h"
#include "tandem/core/storage/run_lock.h"

namespace tandem {

/// The directory of a run or a device: held by one process at a time, with its checkpoints in `checkpoints/`.
struct RunStorage {
  RunLock lock;
  CheckpointStore checkpoints;
};

/// Makes the directory of --run-dir where it is missing. `seal_key`: the file of --seal-key, empty for none.
/// Of the options the directory and the key are filled in. Errors name the path.
Result<RunStorage> open_run_storage(const std::filesystem::path& directory,
                                    const std::filesystem::path& seal_key, CheckpointStoreOptions options);

}  // namespace tandem
