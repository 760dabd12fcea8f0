#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "tandem/core/base/result.h"
#include "tandem/core/model/named_tensors.h"
#include "tandem/core/storage/checkpoint.h"
#include "tandem/core/training/lr_schedule.h"
#include "tandem/core/wire/messages.h"

namespace tandem::edge_client {

/// Where a device stands in its part of a round.
struct DeviceRound {
  uint32_t number = 0;   ///< in the keys of its messages
  uint32_t ordinal = 0;  ///< as people count
  uint64_t first_example = 0;
  std::vector<uint32_t> batch_sizes;
  uint32_t next_forward = 0;  ///< first step whose activations have not been computed
  uint32_t next_apply = 0;    ///< first step that is not done
  uint32_t steps = 0;         ///< optimiser steps of the front
  Figures figures;            ///< of those steps
};

/// A moment to which a device can go back: between two steps, or with the round's front sent.
struct EdgeCheckpoint {
  uint64_t run_id = 0;
  uint64_t instance = 0;  ///< under which the aggregator knows the program
  wire::DevicePosition position;
  DeviceRound round;
  LrScheduleOptions lr_schedule;
  /// DeviceTrainer's state; aliases until it is saved.
  NamedTensors trainer;
  /// Requests without an answer, by step.
  std::map<uint32_t, wire::Message> requests;
  /// Set once the front was sent: SCAFFOLD's change of the control variates goes with it.
  bool front_sent = false;
  NamedTensors control_change;
};

Checkpoint to_checkpoint(const EdgeCheckpoint& state);
/// kCorrupt says what is missing or does not decode.
Result<EdgeCheckpoint> edge_checkpoint_of(const Checkpoint& checkpoint);

}  // namespace tandem::edge_client
