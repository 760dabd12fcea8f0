#include "tandem/aggregator/stored_run.h"

#include <spdlog/spdlog.h>

#include <utility>
#include <vector>

#include "tandem/core/storage/atomic_file.h"

namespace tandem::aggregator {

Result<StoredRun> open_stored_run(const TrainingFlags& flags, const std::string& config) {
  const std::filesystem::path checkpoints = flags.run_dir / "checkpoints";
  if (!flags.resume) {
    auto directory = RunDirectory::create(flags.run_dir);
    if (!directory) return directory.error();
    return StoredRun{std::move(*directory), CheckpointStore(checkpoints), std::nullopt};
  }
  if (const auto recorded = read_file(flags.run_dir / "config.toml"); recorded) {
    if (auto same = TrainingFlags::check_same_run(*recorded, config); !same) return same.error();
  }
  CheckpointStore store(checkpoints);
  std::vector<std::string> warnings;
  auto newest = store.load_newest(warnings);
  for (const std::string& warning : warnings) spdlog::warn("{}", warning);
  if (!newest && newest.error().code != ErrorCode::kNotFound) return newest.error();
  auto directory = RunDirectory::resume(flags.run_dir, newest ? newest->position.round : 0);
  if (!directory) return directory.error();
  return StoredRun{std::move(*directory), std::move(store),
                   newest ? std::optional(std::move(*newest)) : std::nullopt};
}

}  // namespace tandem::aggregator
