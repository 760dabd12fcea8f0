#pragma once

#include <compare>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "tandem/core/base/result.h"
#include "tandem/core/model/named_tensors.h"

namespace tandem {

/// A moment of a run, as its owner counts; the aggregator: complete rounds, and steps applied after them.
struct CheckpointPosition {
  uint32_t round = 0;
  uint32_t step = 0;
  auto operator<=>(const CheckpointPosition&) const = default;
};

/// A point from which a run can continue.
struct Checkpoint {
  CheckpointPosition position;
  NamedTensors tensors;
  std::map<std::string, std::string> metadata;
};

/// Where one party of a run keeps its newest checkpoints. Not thread-safe.
class CheckpointStorage {
 public:
  virtual ~CheckpointStorage() = default;

  /// What is newer than the saved position was given up when the run went back, and is removed.
  virtual Result<void> save(const Checkpoint& checkpoint) = 0;
  /// Newest first. Whether each is whole is known when it is loaded.
  virtual std::vector<CheckpointPosition> positions() const = 0;
  /// kNotFound, or kCorrupt with what is wrong with it.
  virtual Result<Checkpoint> load(CheckpointPosition position) const = 0;
};

/// In memory, for as long as the program lives.
class CheckpointMemory : public CheckpointStorage {
 public:
  /// `keep` newest checkpoints stay; >= 1.
  explicit CheckpointMemory(int keep) : keep_(keep) {}

  /// Keeps copies of the tensors.
  Result<void> save(const Checkpoint& checkpoint) override;
  std::vector<CheckpointPosition> positions() const override;
  /// Its tensors alias those that are kept: nobody may write them.
  Result<Checkpoint> load(CheckpointPosition position) const override;

 private:
  int keep_;
  std::deque<Checkpoint> checkpoints_;  // newest first
};

/// Checkpoints in one directory: `round-00003-step-00000.safetensors` and beside it a manifest `.json`
/// with size and SHA-256, written last. A checkpoint counts only when its manifest is there and matches,
/// so a crash or a full disk at any moment leaves the previous one whole.
class CheckpointStore : public CheckpointStorage {
 public:
  /// `keep` newest checkpoints stay, older ones are removed after each save; >= 1.
  explicit CheckpointStore(std::filesystem::path directory, int keep = 2);

  /// Creates the directory if needed. kIo names the path.
  Result<void> save(const Checkpoint& checkpoint) override;
  std::vector<CheckpointPosition> positions() const override;
  Result<Checkpoint> load(CheckpointPosition position) const override;

  /// The newest one that is complete and matches its checksum; damaged ones are passed over and described
  /// in `warnings`. kNotFound when there is none.
  Result<Checkpoint> load_newest(std::vector<std::string>& warnings) const;

 private:
  std::filesystem::path directory_;
  int keep_;
};

}  // namespace tandem
