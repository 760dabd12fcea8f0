#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "tandem/core/base/ids.h"
#include "tandem/core/base/result.h"

namespace tandem::aggregator {

struct SessionOptions;
struct TrainedModel;

/// What a client may send for one batch.
struct ActivationRules {
  std::vector<int64_t> shape;  ///< {B, ...} of the activations or of a gradient
  bool labels_stay = false;    ///< U-shaped: none may come
  int64_t num_classes = 0;
  double magnitude_limit = 0;  ///< larger values are refused, NaN and infinity too
};

/// Returns the rules for a batch of so many examples of that client that goes into its tail.
ActivationRules activation_rules(const SessionOptions& options, const TrainedModel& model,
                                 const ClientId& client, int64_t examples);

/// Checks what came before it is joined with others'. kShapeMismatch, kInvalidArgument (labels) or
/// kNonFinite say what was expected and what came.
Result<void> check_activations(const at::Tensor& activations, const at::Tensor& labels,
                               const ActivationRules& rules);
/// The same of a gradient with respect to a tail's outputs.
Result<void> check_output_gradient(const at::Tensor& gradient, const ActivationRules& rules);

}  // namespace tandem::aggregator
