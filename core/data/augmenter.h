#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "tandem/core/base/result.h"

namespace tandem {

/// Turns a stored batch into the model's input on the device: scaling, random augmentation, normalisation.
/// Immutable: any thread may call.
class Augmenter {
 public:
  virtual ~Augmenter() = default;

  /// `inputs` uint8 [n, ...] (scaled to 0..1) or float32 [n, ...] (taken as it is); `seeds` one for
  /// each example, its only source of randomness, so the result does not depend on how examples are
  /// batched. Returns float32 of the same shape, freshly allocated.
  virtual at::Tensor augment(const at::Tensor& inputs, std::span<const uint64_t> seeds) const = 0;

  /// The same without randomness: scaling and normalisation only, for evaluation.
  virtual at::Tensor prepare(const at::Tensor& inputs) const = 0;
};

/// Makes an augmenter from a plan's `augment` and `normalize` for examples of `input_shape`. Handed to the
/// sessions by the programs, so that neither side depends on the augment library.
using AugmenterFactory = std::function<Result<std::unique_ptr<const Augmenter>>(
    const std::string& augment, const std::string& normalize, const std::vector<int64_t>& input_shape)>;

}  // namespace tandem
