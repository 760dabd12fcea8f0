#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "tandem/core/base/result.h"
#include "tandem/core/storage/checkpoint.h"
#include "tandem/edge_client/session/edge_checkpoint.h"

namespace tandem::edge_client {

/// The moments of one run to which a device can go back. It lists what its storage holds of that run, and
/// nothing else: what the storage drops or gives up is no longer listed.
class KeptCheckpoints {
 public:
  /// Null keeps nothing; else it must outlive the object.
  explicit KeptCheckpoints(CheckpointStorage* storage) : storage_(storage) {}

  /// Whose they are.
  struct Owner {
    uint64_t run_id = 0;
    uint64_t instance = 0;  ///< as in EdgeCheckpoint
  };
  /// Lists what an earlier program left of the run of the newest. Damaged ones are passed over with a note.
  /// Nothing when there is none.
  std::optional<Owner> find(const std::function<void(const std::string&)>& note);

  /// When it fails, what is kept already stays listed.
  Result<void> save(const EdgeCheckpoint& checkpoint);
  /// The one at that place; kProtocol where nothing is kept.
  Result<EdgeCheckpoint> load(const wire::DevicePosition& position) const;
  /// Another run begins.
  void forget() { positions_.clear(); }

  bool active() const { return storage_ != nullptr; }
  /// Null when none is kept.
  const wire::DevicePosition* newest() const { return positions_.empty() ? nullptr : &positions_.front(); }
  /// Where the device can go on, newest first, each place once: at `live`, where it stands, if it could begin
  /// anew from there; at what is kept; and before its first round.
  std::vector<wire::DevicePosition> offer(const std::optional<wire::DevicePosition>& live) const;

 private:
  CheckpointStorage* storage_;
  std::vector<wire::DevicePosition> positions_;  // newest first
};

}  // namespace tandem::edge_client
