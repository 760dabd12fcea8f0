#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tandem/core/base/result.h"
#include "tandem/core/data/augmenter.h"

namespace tandem::augment {

/// Builds the on-device pipeline for examples of `input_shape`:
///   `operations` "crop:P" (zero-pad by P pixels, cut the old size out at random), "flip" (left-right with
///   probability 1/2), "cutout:S" (a square of side S around a random centre becomes zero in the
///   stored scale); comma separated, applied in that order; empty or "none" for none. Images only.
///   `normalize` "MEAN/STD" for all channels or one a channel, comma separated, on inputs scaled to 0..1
///   (uint8 inputs are divided by 255, float32 inputs taken as they are); empty or "none" for none.
/// The result is channels-last where there is more than one channel.
/// kInvalidArgument quotes the operation or value that is wrong and lists the known ones.
Result<std::unique_ptr<const Augmenter>> build_pipeline(const std::string& operations,
                                                        const std::string& normalize,
                                                        const std::vector<int64_t>& input_shape);

}  // namespace tandem::augment
