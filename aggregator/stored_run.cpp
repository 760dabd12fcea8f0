#include "tandem/aggregator/stored_run.h"

#include <spdlog/spdlog.h>

#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "tandem/core/storage/atomic_file.h"

namespace tandem::aggregator {
namespace {

Result<RunLock> lock_directory(const std::filesystem::path& directory) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) {
    return Error{ErrorCode::kIo, "cannot create --run-dir " + directory.string() + ": " + error.message()};
  }
  return RunLock::acquire(directory);
}

Result<CheckpointStore> open_checkpoints(const TrainingFlags& flags) {
  CheckpointStoreOptions options{.directory = flags.run_dir / "checkpoints", .owner = "aggregator"};
  if (!flags.seal_key.empty()) {
    auto key = load_seal_key(flags.seal_key);
    if (!key) return key.error();
    options.seal_key = std::move(*key);
  }
  return CheckpointStore(std::move(options));
}

/// The newest good one; nothing where there is none.
Result<std::optional<Checkpoint>> newest_of(const CheckpointStore& checkpoints) {
  std::vector<std::string> warnings;
  auto newest = checkpoints.load_newest(warnings);
  for (const std::string& warning : warnings) spdlog::warn("{}", warning);
  if (newest) return std::optional(std::move(*newest));
  if (newest.error().code == ErrorCode::kNotFound) return std::optional<Checkpoint>();
  return newest.error();
}

}  // namespace

Result<StoredRun> open_stored_run(const TrainingFlags& flags, const std::string& config) {
  auto lock = lock_directory(flags.run_dir);
  if (!lock) return lock.error();
  auto checkpoints = open_checkpoints(flags);
  if (!checkpoints) return checkpoints.error();
  std::optional<Checkpoint> newest;
  if (flags.resume) {
    if (const auto recorded = read_file(flags.run_dir / "config.toml"); recorded) {
      if (auto same = TrainingFlags::check_same_run(*recorded, config); !same) return same.error();
    }
    auto found = newest_of(*checkpoints);
    if (!found) return found.error();
    newest = std::move(*found);
  }
  auto directory = flags.resume ? RunDirectory::resume(flags.run_dir, newest ? newest->position.round : 0)
                                : RunDirectory::create(flags.run_dir);
  if (!directory) return directory.error();
  return StoredRun{std::move(*lock), std::move(*directory), std::move(*checkpoints), std::move(newest)};
}

}  // namespace tandem::aggregator
