#pragma once

#include <functional>
#include <map>
#include <string>

#include <nlohmann/json_fwd.hpp>

#include "tandem/core/base/result.h"
#include "tandem/core/model/named_tensors.h"
#include "tandem/core/storage/checkpoint.h"

namespace tandem {

/// A checkpoint of small values and of tensors. The values are kept as JSON in a tensor of bytes named
/// "state"; numbers come back to the bit, NaN and infinity become null. `metadata` is for people.
Checkpoint make_checkpoint(CheckpointPosition position, const nlohmann::json& values, NamedTensors tensors,
                           std::map<std::string, std::string> metadata);

/// Hands a checkpoint's values to `load`. kCorrupt when it has none, or when `load` throws because a field is
/// missing or of another kind; else what `load` returns.
Result<void> load_checkpoint_values(const Checkpoint& checkpoint,
                                    const std::function<Result<void>(const nlohmann::json&)>& load);

}  // namespace tandem
