#pragma once

#include <cstdint>
#include <string>

#include <ATen/core/Tensor.h>

#include "tandem/core/base/result.h"

namespace tandem::datasets {

/// The largest number of classes that labels in a file may stand for.
inline constexpr int64_t kMaxClasses = 1'000'000;

struct ClassCount {
  int64_t classes = 0;  ///< at least 2
  std::string warning;  ///< for the operator, before anything is trained; empty for none
};

/// How many classes `labels` (int64 [N], N > 0) stand for: `declared` where that is above 0, otherwise the
/// largest label + 1. `source` names the file in messages.
///
/// kCorrupt names a label that is negative or beyond the classes, and without `declared` one that cannot be
/// meant as a class: a few examples whose label lies beyond a gap above all the others, which would make a
/// model of mostly classes that nobody has. Where most classes have no example, but the labels look no worse
/// than those of a device that holds few classes, that is a warning.
Result<ClassCount> count_classes(const at::Tensor& labels, int64_t declared, const std::string& source);

}  // namespace tandem::datasets
