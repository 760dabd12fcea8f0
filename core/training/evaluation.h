#pragma once

#include <cstdint>

#include <c10/core/Device.h>

#include "tandem/core/data/augmenter.h"
#include "tandem/core/data/dataset.h"
#include "tandem/core/model/model.h"

namespace tandem {

/// How well a model does on a data set.
struct Evaluation {
  double loss = 0;      ///< mean cross-entropy
  double accuracy = 0;  ///< 0..1
  int64_t examples = 0;
};

/// Runs the whole model over every example in evaluation mode, without gradients and without random
/// augmentation, `batch_size` at a time on `device`, and leaves the model in training mode. A data set
/// must hold at least one example.
Evaluation evaluate(ModelPart model, const Dataset& dataset, const Augmenter& augmenter, int64_t batch_size,
                    at::Device device);

}  // namespace tandem
