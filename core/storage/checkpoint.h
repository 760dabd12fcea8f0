#pragma once

#include <compare>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tandem/core/base/result.h"
#include "tandem/core/model/named_tensors.h"
#include "tandem/core/storage/seal.h"

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

struct CheckpointStoreOptions {
  /// Made, with its parents, by the first save.
  std::filesystem::path directory;
  /// Newest checkpoints that stay, older ones are removed after each save; >= 1.
  int keep = 2;
  /// Seals every checkpoint that is saved (seal.h). Then only sealed ones are loaded: who can write the
  /// directory could otherwise put a plain one in their place.
  std::optional<SealKey> seal_key;
  /// Whose checkpoints they are, such as "aggregator"; sealed ones of another owner are refused.
  std::string owner;
};

/// Checkpoints in one directory: `round-00003-step-00000.safetensors`, or `.sealed`, and beside it a manifest
/// `.json` with size and SHA-256, put in place last. A checkpoint counts only when its manifest is there and
/// matches.
///
/// A save that is stopped at any moment, by a signal, a full disk or the power, leaves the newest checkpoint
/// whole, the one before the save or the new one. For: the data goes to a name that no manifest mentions; the
/// manifest takes its place, by one rename, after the contents of both are on the disk; and what was there
/// before is removed after the rename is. What a kill leaves behind is removed by the next save.
class CheckpointStore : public CheckpointStorage {
 public:
  explicit CheckpointStore(CheckpointStoreOptions options);
  explicit CheckpointStore(std::filesystem::path directory, int keep = 2);

  /// kIo names the path and what to do; kTooLarge when it cannot be sealed.
  Result<void> save(const Checkpoint& checkpoint) override;
  std::vector<CheckpointPosition> positions() const override;
  /// Also kInvalidArgument, which no older checkpoint helps against: it is sealed and there is no key or
  /// another one, or it is not sealed though there is a key.
  Result<Checkpoint> load(CheckpointPosition position) const override;

  /// The newest one that is complete and matches its checksum; damaged ones are passed over and described
  /// in `warnings`. kNotFound when there is none. kInvalidArgument as `load`.
  Result<Checkpoint> load_newest(std::vector<std::string>& warnings) const;

 private:
  CheckpointStoreOptions options_;
  bool swept_ = false;  // of what an earlier process left behind
};

}  // namespace tandem
