#pragma once

#include <optional>
#include <string>

#include "tandem/aggregator/program/aggregator_flags.h"
#include "tandem/core/base/result.h"
#include "tandem/core/run/run_directory.h"
#include "tandem/core/storage/run_storage.h"

namespace tandem::aggregator {

/// A run's directory with its checkpoints, of a run that begins or goes on.
struct StoredRun {
  RunStorage storage;
  RunDirectory directory;
  /// Where it goes on; nothing when it begins.
  std::optional<Checkpoint> newest;
  /// Those of --init, where it begins: a run that goes on has its weights in the checkpoint.
  std::optional<InitialWeights> initial_weights;
};

/// Opens --run-dir as --resume says. `flags`: all of the program's, `training` among them. Damaged
/// checkpoints are passed over with a warning in the log. The file of --init is read only where the run
/// begins. kInvalidArgument when the directory holds a run that is not to go on, one of other flags (all of
/// them are named), or one that cannot go on: without a good checkpoint nothing is begun anew over its
/// results.
Result<StoredRun> open_stored_run(const TrainingFlags& training, const Flags& flags);

}  // namespace tandem::aggregator
