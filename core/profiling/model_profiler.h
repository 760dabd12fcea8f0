#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

#include "tandem/core/base/result.h"
#include "tandem/core/model/model.h"
#include "tandem/core/profiling/model_profile.h"
#include "tandem/core/training/optimizer.h"

namespace tandem {

struct ProfilerOptions {
  int64_t batch_size = 32;
  OptimizerOptions optimizer;
  std::string optimizer_text = "sgd";
  int warmup = 3;  ///< passes that are not counted
  int fewest_samples = 5;
  int most_samples = 50;
  double half_width = 0.03;                  ///< enough for the median's confidence interval, as a share
  double largest_drift = 0.05;               ///< between the halves of the samples
  int attempts = 3;                          ///< after so many measurements that drift the profile is refused
  std::chrono::milliseconds budget{20'000};  ///< of one attempt; samples end with it
};

/// Measures a training step of every block, every prefix and every suffix of the model on this machine, with
/// the calling thread's threads. The passes over them are interleaved, so that a machine that becomes slower
/// makes all of them slower. `progress` gets a line from time to time. kUnsupported says that the machine is
/// too restless to be measured, or that the model does not run; kTooLarge that it does not fit into memory.
/// Role, name and memory of the machine are the caller's to fill in.
Result<ModelProfile> profile_model(const ModelDefinition& definition, const ProfilerOptions& options,
                                   const std::function<void(const std::string&)>& progress);

/// Returns the fingerprint of what profile_model would measure on this machine, without measuring.
ProfileFingerprint fingerprint_of(const ModelDefinition& definition, const ProfilerOptions& options);

}  // namespace tandem
