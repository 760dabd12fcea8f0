#include "tandem/aggregator/rounds/activation_checks.h"

#include <torch/torch.h>

#include <algorithm>
#include <string>

#include "tandem/aggregator/session/session_options.h"
#include "tandem/aggregator/tail/trained_model.h"
#include "tandem/core/data/data_description.h"

namespace tandem::aggregator {
namespace {

std::string describe(const at::Tensor& tensor) {
  return shape_to_string(tensor.sizes().vec()) + " " + toString(tensor.scalar_type());
}

double largest_magnitude(const at::Tensor& tensor) {
  if (tensor.numel() == 0) return 0;
  const torch::NoGradGuard no_grad;
  // NaN propagates through both, so one comparison with the limit finds NaN, infinity and 1e30 alike.
  return std::max(tensor.max().item<double>(), -tensor.min().item<double>());
}

Result<void> check_values(const char* what, const at::Tensor& tensor, const ActivationRules& rules) {
  if (tensor.scalar_type() != at::kFloat || tensor.sizes() != at::IntArrayRef(rules.shape)) {
    return Error{ErrorCode::kShapeMismatch, std::string(what) + " have shape " + describe(tensor) +
                                                ", expected " + shape_to_string(rules.shape) + " Float"};
  }
  const double magnitude = largest_magnitude(tensor);
  if (!(magnitude <= rules.magnitude_limit)) {
    return Error{ErrorCode::kNonFinite, std::string(what) + " reach a magnitude of " +
                                            std::to_string(magnitude) + ", expected finite values up to " +
                                            std::to_string(rules.magnitude_limit)};
  }
  return {};
}

Result<void> check_labels(const at::Tensor& labels, const ActivationRules& rules) {
  const int64_t expected = rules.labels_stay ? 0 : rules.shape.front();
  if (labels.scalar_type() != at::kLong || labels.dim() != 1 || labels.size(0) != expected) {
    return Error{ErrorCode::kShapeMismatch, "labels have shape " + describe(labels) + ", expected " +
                                                std::to_string(expected) + " Long" +
                                                (rules.labels_stay ? " (they stay on the device)" : "")};
  }
  if (expected == 0) return {};
  const int64_t lowest = labels.min().item<int64_t>();
  const int64_t highest = labels.max().item<int64_t>();
  if (lowest >= 0 && highest < rules.num_classes) return {};
  return Error{ErrorCode::kInvalidArgument, "labels range from " + std::to_string(lowest) + " to " +
                                                std::to_string(highest) + ", expected 0 to " +
                                                std::to_string(rules.num_classes - 1)};
}

}  // namespace

ActivationRules activation_rules(const SessionOptions& options, const TrainedModel& model,
                                 const ClientId& client, int64_t examples) {
  return {.shape = model.partitions.of(client).activation_shape(model.definition, examples),
          .labels_stay = options.plan.u_shaped(),
          .num_classes = options.plan.num_classes,
          .magnitude_limit = options.activation_limit};
}

Result<void> check_activations(const at::Tensor& activations, const at::Tensor& labels,
                               const ActivationRules& rules) {
  if (auto checked = check_labels(labels, rules); !checked) return checked;
  return check_values("activations", activations, rules);
}

Result<void> check_output_gradient(const at::Tensor& gradient, const ActivationRules& rules) {
  return check_values("output gradients", gradient, rules);
}

}  // namespace tandem::aggregator
