#include "tandem/aggregator/stored_run.h"

#include <spdlog/spdlog.h>

#include <string>
#include <utility>
#include <vector>

#include "tandem/core/storage/atomic_file.h"

namespace tandem::aggregator {
namespace {

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
  Result<std::optional<InitialWeights>> initial_weights = std::optional<InitialWeights>();
  // Read before anything is made, so that a file that is no good leaves nothing behind.
  if (!flags.resume) initial_weights = flags.load_initial_weights();
  if (!initial_weights) return initial_weights.error();
  auto storage = open_run_storage(flags.run_dir, flags.seal_key, {.owner = "aggregator"});
  if (!storage) return storage.error();
  std::optional<Checkpoint> newest;
  if (flags.resume) {
    if (const auto recorded = read_file(flags.run_dir / "config.toml"); recorded) {
      if (auto same = TrainingFlags::check_same_run(*recorded, config); !same) return same.error();
    }
    auto found = newest_of(storage->checkpoints);
    if (!found) return found.error();
    newest = std::move(*found);
    if (!newest) initial_weights = flags.load_initial_weights();
    if (!initial_weights) return initial_weights.error();
  }
  auto directory = flags.resume ? RunDirectory::resume(flags.run_dir, newest ? newest->position.round : 0)
                                : RunDirectory::create(flags.run_dir);
  if (!directory) return directory.error();
  return StoredRun{std::move(*storage), std::move(*directory), std::move(newest),
                   std::move(*initial_weights)};
}

}  // namespace tandem::aggregator
