#include "tandem/aggregator/program/stored_run.h"

#include <spdlog/spdlog.h>

#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "tandem/core/storage/atomic_file.h"
#include "tandem/core/training/compute_device.h"

namespace tandem::aggregator {
namespace {

namespace fs = std::filesystem;

constexpr const char* kComputedWith = "\n# computed with ";

/// Bit equality holds for one number of threads on one kind of machine.
void compare_machines(const std::string& recorded) {
  const size_t at = recorded.find(kComputedWith);
  if (at == std::string::npos) return;
  const size_t begin = at + std::string(kComputedWith).size();
  const std::string before = recorded.substr(begin, recorded.find('\n', begin) - begin);
  if (before == describe_compute()) return;
  spdlog::warn("the run was computed with {}, from now on with {}: it goes on, but not to the same bits",
               before, describe_compute());
}

Result<void> check_same_run(const TrainingFlags& training, const Flags& flags) {
  const fs::path config = training.run_dir / "config.toml";
  const auto recorded = read_file(config);
  if (!recorded && recorded.error().code != ErrorCode::kNotFound) return recorded.error();
  if (!recorded) {
    spdlog::warn("{} is missing: whether the flags are those of the run is not known", config.string());
    return {};
  }
  const auto differences = flags.differences_from(config);
  if (!differences) return differences.error();
  if (!differences->empty()) {
    return Error{ErrorCode::kInvalidArgument,
                 "--resume: the run in " + training.run_dir.string() + " was made with other flags: " +
                     Flags::text_of(*differences) + "; give the flags of the run (--config " +
                     config.string() + " --resume) or another --run-dir"};
  }
  compare_machines(*recorded);
  return {};
}

/// The newest good one; nothing where nothing would be lost by beginning.
Result<std::optional<Checkpoint>> newest_of(const fs::path& run_dir, const CheckpointStore& checkpoints) {
  std::vector<std::string> warnings;
  auto newest = checkpoints.load_newest(warnings);
  for (const std::string& warning : warnings) spdlog::warn("{}", warning);
  if (newest) return std::optional(std::move(*newest));
  if (newest.error().code != ErrorCode::kNotFound) return newest.error();
  const bool damaged = !checkpoints.positions().empty();
  if (damaged || RunDirectory::holds_results(run_dir)) {
    return Error{
        ErrorCode::kInvalidArgument,
        "--resume: " + run_dir.string() + " holds a run, and " +
            (damaged ? "all its checkpoints are damaged" : "its checkpoints are gone") + " (" +
            newest.error().message +
            "): nothing to go on from, and it is not begun anew over its results; bring the checkpoints "
            "back, or move the directory away, or choose another --run-dir"};
  }
  return std::optional<Checkpoint>();
}

Result<RunDirectory> begin_directory(const fs::path& path, const CheckpointStore& checkpoints) {
  if (!checkpoints.positions().empty()) {
    return Error{ErrorCode::kInvalidArgument,
                 path.string() +
                     " already holds a run (its checkpoints); --resume goes on with it, or choose another "
                     "--run-dir or move it away"};
  }
  return RunDirectory::create(path);
}

}  // namespace

Result<StoredRun> open_stored_run(const TrainingFlags& training, const Flags& flags) {
  const fs::path& path = training.run_dir;
  Result<std::optional<InitialWeights>> initial_weights = std::optional<InitialWeights>();
  // Read before anything is made, so that a file that is no good leaves nothing behind.
  if (!training.resume) initial_weights = training.load_initial_weights();
  if (!initial_weights) return initial_weights.error();
  auto storage = open_run_storage(path, training.seal_key, {.owner = "aggregator"});
  if (!storage) return storage.error();
  std::optional<Checkpoint> newest;
  // A process that was killed before its first record leaves an empty metrics.jsonl: its directory is no
  // stranger's.
  std::error_code error;
  const bool goes_on =
      training.resume && (fs::exists(path / "metrics.jsonl", error) ||
                          !storage->checkpoints.positions().empty() || RunDirectory::holds_results(path));
  if (goes_on) {
    auto found = newest_of(path, storage->checkpoints);
    if (!found) return found.error();
    newest = std::move(*found);
    if (auto same = check_same_run(training, flags); !same) return same.error();
  }
  if (training.resume && !newest) initial_weights = training.load_initial_weights();
  if (!initial_weights) return initial_weights.error();
  auto directory = goes_on ? RunDirectory::resume(path, newest ? newest->position.round : 0)
                           : begin_directory(path, storage->checkpoints);
  if (!directory) return directory.error();
  return StoredRun{std::move(*storage), std::move(*directory), std::move(newest),
                   std::move(*initial_weights)};
}

}  // namespace tandem::aggregator
