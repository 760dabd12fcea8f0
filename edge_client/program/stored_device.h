#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "tandem/core/base/result.h"
#include "tandem/core/storage/checkpoint.h"
#include "tandem/core/storage/run_lock.h"
#include "tandem/edge_client/program/edge_flags.h"

namespace tandem::edge_client {

/// What a device remembers across starts of its program.
struct StoredDevice {
  /// Under which the aggregator knows the program: kept in --run-dir, else random for each start.
  uint64_t instance = 0;
  std::unique_ptr<CheckpointStorage> checkpoints;
  std::optional<RunLock> lock;  ///< of --run-dir, held by one process at a time
};

/// Opens --run-dir as --resume says; without one everything is in memory. The folder gets a config.toml with
/// the flags in force. `all`: all of the program's flags, `flags` among them. kInvalidArgument when the
/// folder holds checkpoints that are not to be gone on from, those of other data (each flag is named), or
/// only damaged ones; and when somebody else's config.toml is there.
Result<StoredDevice> open_stored_device(const EdgeFlags& flags, const Flags& all);

}  // namespace tandem::edge_client
