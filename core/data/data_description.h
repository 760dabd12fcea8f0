#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tandem/core/base/result.h"

namespace tandem {

/// What a model must know of data to be built for it.
struct DataDescription {
  /// Shape of one example without the batch dimension: {channels, height, width} or {features}.
  std::vector<int64_t> input_shape;
  int64_t num_classes = 0;
  int64_t num_examples = 0;

  bool operator==(const DataDescription&) const = default;
};

/// "1x28x28"
std::string shape_to_string(const std::vector<int64_t>& shape);
/// Reads such a text, with sides of 1 to 65536. kInvalidArgument names `what`, the part that is wrong and the
/// range.
Result<std::vector<int64_t>> parse_shape(const std::string& what, const std::string& text);

}  // namespace tandem
