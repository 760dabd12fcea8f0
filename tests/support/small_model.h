#pragma once

#include <memory>
#include <utility>

#include "tandem/aggregator/tail/trained_model.h"
//
#include "support/test.h"

namespace tandem::testing {

/// A perceptron of three blocks for 4 x 4 images of three classes, cut after the first; what it decides is
/// written into `plan`.
inline std::unique_ptr<aggregator::TrainedModel> small_model(TrainingPlan& plan) {
  plan.model = "mlp:hidden=8-8";
  plan.input_shape = {1, 4, 4};
  plan.num_classes = 3;
  const auto no_augmenter = [](const auto&, const auto&, const auto&) {
    return Result<std::unique_ptr<const Augmenter>>(nullptr);
  };
  auto model = aggregator::build_trained_model(plan, {}, {}, no_augmenter, at::kCPU);
  REQUIRE(model.has_value());
  return std::move(*model);
}

}  // namespace tandem::testing
