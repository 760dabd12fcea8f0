#include "tandem/edge_client/session/kept_checkpoints.h"

#include <algorithm>
#include <utility>

namespace tandem::edge_client {

std::optional<KeptCheckpoints::Owner> KeptCheckpoints::find(
    const std::function<void(const std::string&)>& note) {
  if (storage_ == nullptr) return std::nullopt;
  std::optional<Owner> owner;
  for (const CheckpointPosition& at : storage_->positions()) {
    const auto checkpoint = storage_->load(at);
    const auto state =
        checkpoint ? edge_checkpoint_of(*checkpoint) : Result<EdgeCheckpoint>(checkpoint.error());
    if (!state) {
      note("a checkpoint is passed over: " + state.error().message);
      continue;
    }
    if (owner && state->run_id != owner->run_id) continue;  // left over from another run
    owner = Owner{.run_id = state->run_id, .instance = state->instance};
    positions_.push_back(state->position);
  }
  return owner;
}

Result<void> KeptCheckpoints::save(const EdgeCheckpoint& checkpoint) {
  if (storage_ == nullptr) return {};
  if (auto saved = storage_->save(to_checkpoint(checkpoint)); !saved) return saved;
  positions_.insert(positions_.begin(), checkpoint.position);
  // The storage has dropped the oldest, what stood at the same place, and what was newer.
  std::vector<wire::DevicePosition> kept;
  for (const CheckpointPosition& at : storage_->positions()) {
    const auto known =
        std::find_if(positions_.begin(), positions_.end(), [&](const wire::DevicePosition& position) {
          return position.round == at.round && position.step == at.step;
        });
    if (known != positions_.end()) kept.push_back(*known);
  }
  positions_ = std::move(kept);
  return {};
}

Result<EdgeCheckpoint> KeptCheckpoints::load(const wire::DevicePosition& position) const {
  if (storage_ == nullptr) {
    return Error{ErrorCode::kProtocol, "the aggregator wants this device to go back to step " +
                                           std::to_string(position.step) + " of round " +
                                           std::to_string(position.round) + ", which it never offered"};
  }
  const auto checkpoint = storage_->load({.round = position.round, .step = position.step});
  if (!checkpoint) return checkpoint.error();
  return edge_checkpoint_of(*checkpoint);
}

std::vector<wire::DevicePosition> KeptCheckpoints::offer(
    const std::optional<wire::DevicePosition>& live) const {
  std::vector<wire::DevicePosition> offered;
  if (live) offered.push_back(*live);
  for (const wire::DevicePosition& kept : positions_) {
    if (offered.empty() || !(kept == offered.front())) offered.push_back(kept);
  }
  // Before its first round a device has nothing to go back to, and can always.
  if (positions_.empty() || positions_.back().round > 0) offered.push_back({});
  return offered;
}

}  // namespace tandem::edge_client
