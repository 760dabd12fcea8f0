#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "tandem/core/base/result.h"
#include "tandem/core/profiling/timing.h"

namespace tandem {

/// What the times of a profile hold for. Two profiles belong to one plan only where model, model_hash,
/// input_shape, num_classes, batch_size and dtype agree; a profile belongs to a machine only where all of it
/// does.
struct ProfileFingerprint {
  std::string model;       ///< specification
  std::string model_hash;  ///< of names, shapes and parameter counts of the blocks, 16 hexadecimal digits
  std::vector<int64_t> input_shape;
  int64_t num_classes = 0;
  int64_t batch_size = 0;
  std::string optimizer;  ///< specification
  std::string dtype = "float32";
  int threads = 1;
  std::string libtorch;  ///< version
  std::string cpu;       ///< model name
  bool operator==(const ProfileFingerprint&) const = default;
};

/// Times of one step's parts.
struct StepTiming {
  Timing forward;   ///< with the loss, where the range ends the model
  Timing backward;  ///< gradients of weights and, unless the range begins the model, of inputs
};

/// One block, measured by itself.
struct BlockProfile {
  std::string name;
  StepTiming step;
  Timing optimiser;
  int64_t parameter_bytes = 0;  ///< weights and buffers
  int64_t gradient_bytes = 0;
  int64_t optimiser_bytes = 0;
  int64_t saved_bytes =
      0;  ///< allocated in the forward pass and kept for the backward pass, outputs included
  int64_t output_bytes =
      0;  ///< of a batch's outputs as the message that carries them, framing and labels included
  int64_t gradient_message_bytes = 0;  ///< of their gradient as a message
};

/// Blocks [0, last) on a client, or [first, blocks) on the aggregator, measured as they run.
struct RangeProfile {
  int first = 0;
  int last = 0;
  StepTiming step;
  int64_t peak_bytes = 0;  ///< most that a forward and backward pass allocated at once, beyond the weights
};

/// The link between a client and the aggregator, as a line t = latency + bytes / rate in each direction.
struct ProfileLink {
  double up_bytes_per_ms = 0;
  double down_bytes_per_ms = 0;
  double latency_ms = 0;  ///< of one way
};

/// What one machine needs for a model.
struct ModelProfile {
  std::string name;  ///< of the machine, as a plan names it
  std::string role;  ///< "client", "helper" or "aggregator"
  ProfileFingerprint fingerprint;
  std::optional<ProfileLink> link;  ///< nullopt where nobody has said what it is
  int64_t input_bytes = 0;          ///< of a batch's inputs as a message
  int64_t memory_bytes = 0;         ///< of the machine that this program may use
  int64_t peak_rss_bytes = 0;       ///< of this process, libraries included
  std::vector<BlockProfile> blocks;
  std::vector<RangeProfile> prefixes;  ///< [0, 1), [0, 2), ..., all blocks
  std::vector<RangeProfile> suffixes;  ///< [0, n), [1, n), ..., [n - 1, n)
  /// The largest difference between a range's time and the sum of its blocks', as a share of the range's.
  double additivity_error = 0;
  double drift = 0;  ///< between the halves of the samples of all blocks in a row
};

nlohmann::ordered_json json_of(const ModelProfile& profile);
/// Reads what `json_of` wrote. kCorrupt names the field, the rule that it breaks and its value.
Result<ModelProfile> read_profile(const nlohmann::json& json);

/// Reads such a file. kNotFound and kIo say what is wrong with the file, kCorrupt what with its content.
Result<ModelProfile> read_profile_file(const std::filesystem::path& path);

/// Returns what of two fingerprints differs, as "batch_size: 8 and 32"; empty where nothing does.
/// `same_machine`: whether threads, LibTorch, CPU and optimiser count too.
std::string difference(const ProfileFingerprint& a, const ProfileFingerprint& b, bool same_machine);

}  // namespace tandem
