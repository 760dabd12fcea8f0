#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tandem/core/base/result.h"
#include "tandem/core/model/model.h"

namespace tandem {

/// Where a stage of a model runs.
enum class Place : uint8_t { kClient, kAggregator };

/// Consecutive blocks [first, last) of a model at one place.
struct Stage {
  Place place = Place::kClient;
  int first = 0;
  int last = 0;
  int blocks() const { return last - first; }
  bool operator==(const Stage&) const = default;
};

/// Says where each block of one client's model runs: stages in the order in which a batch goes through them.
/// The first stage is on the client, which has the data. A partition of two stages is a model that is cut
/// once; a third stage, on the client again, makes the model U-shaped, and labels and loss stay with the
/// client. A partition of one stage is federated learning. Immutable.
class ModelPartition {
 public:
  /// Returns the partition with blocks [0, cut) on the client, the last `head_blocks` blocks on it too, and
  /// all others on the aggregator. kInvalidArgument says which cuts are possible, or that no block is left
  /// for the aggregator.
  static Result<ModelPartition> cut_at(const ModelDefinition& definition, int cut, int head_blocks = 0);
  /// Returns the partition with every block on the client.
  static ModelPartition on_client(const ModelDefinition& definition);

  const std::vector<Stage>& stages() const { return stages_; }
  /// Returns the number of blocks of the model.
  int blocks() const { return stages_.back().last; }
  /// Returns the client's first stage: the front.
  const Stage& front() const { return stages_.front(); }
  /// Returns the aggregator's stage; nullopt where every block is on the client.
  std::optional<Stage> tail() const;
  /// Returns the client's second stage; nullopt unless the model is U-shaped.
  std::optional<Stage> head() const;
  /// Returns the stage that has the labels and computes the loss.
  const Stage& loss_stage() const { return stages_.back(); }

  /// Returns the shape {batch, ...} of the outputs of the front.
  std::vector<int64_t> activation_shape(const ModelDefinition& definition, int64_t batch) const;
  /// Returns the shape {batch, ...} of the outputs of the tail, or of the front where there is no tail.
  std::vector<int64_t> output_shape(const ModelDefinition& definition, int64_t batch) const;
  /// Returns how many examples a batch has in an evaluation between client and aggregator, for both sides: at
  /// most 256, fewer where their activations or outputs have more than 2^22 values.
  int64_t evaluation_batch_size(const ModelDefinition& definition) const;

  bool operator==(const ModelPartition&) const = default;

 private:
  explicit ModelPartition(std::vector<Stage> stages) : stages_(std::move(stages)) {}

  std::vector<Stage> stages_;
};

}  // namespace tandem
