#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "tandem/core/base/result.h"
#include "tandem/core/model/named_tensors.h"

namespace tandem {

/// A point from which a run can continue.
struct Checkpoint {
  uint32_t round = 0;  ///< the last complete round
  uint32_t step = 0;   ///< steps applied inside the round after it
  NamedTensors tensors;
  std::map<std::string, std::string> metadata;
};

/// Checkpoints in one directory: `round-00003-step-00000.safetensors` and beside it a manifest `.json`
/// with size and SHA-256, written last. A checkpoint counts only when its manifest is there and matches,
/// so a crash or a full disk at any moment leaves the previous one whole.
class CheckpointStore {
 public:
  /// `keep` newest checkpoints stay, older ones are removed after each save; >= 1.
  explicit CheckpointStore(std::filesystem::path directory, int keep = 2);

  /// Creates the directory if needed. kIo names the path.
  Result<void> save(const Checkpoint& checkpoint);

  /// The newest one that is complete and matches its checksum; damaged ones are passed over and described
  /// in `warnings`. kNotFound when there is none.
  Result<Checkpoint> load_newest(std::vector<std::string>& warnings) const;

 private:
  std::filesystem::path directory_;
  int keep_;
};

}  // namespace tandem
