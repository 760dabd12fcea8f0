#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "tandem/core/base/random.h"
#include "tandem/core/base/result.h"

namespace tandem::augment {

struct ImageShape {
  int64_t channels = 0;
  int64_t height = 0;
  int64_t width = 0;

  /// The shorter of height and width.
  int64_t side() const { return height < width ? height : width; }
};

/// Pads by `padding` zeros on every side and cuts the old size out, both offsets uniform in
/// 0..2 * padding: the picture moves by at most `padding` pixels each way.
struct Crop {
  int64_t padding;
  bool operator==(const Crop&) const = default;
};

/// Left and right change places with probability 1/2.
struct Flip {
  bool operator==(const Flip&) const = default;
};

/// A square of `size` x `size` pixels becomes zero: from centre - size / 2 on, the centre uniform over the
/// pixels, clipped at the border (DeVries and Taylor 2017).
struct Cutout {
  int64_t size;
  bool operator==(const Cutout&) const = default;
};

using ImageOperation = std::variant<Crop, Flip, Cutout>;

/// "crop:P,flip,cutout:S"; empty or "none" for none. P and S in 1..side. kInvalidArgument quotes what is
/// wrong, with the range or the known operations.
Result<std::vector<ImageOperation>> parse_operations(const std::string& text, const ImageShape& shape);

/// Changes one example in place: planes [channels][height][width], the same in every channel. Draws from
/// `random` row before column: Crop two numbers, Flip one, Cutout two.
void apply(const ImageOperation& operation, const ImageShape& shape, SplitMix64& random,
           std::span<uint8_t> pixels);
void apply(const ImageOperation& operation, const ImageShape& shape, SplitMix64& random,
           std::span<float> pixels);

}  // namespace tandem::augment
