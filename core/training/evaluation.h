#pragma once

#include <cstdint>

#include <c10/core/Device.h>

#include "tandem/core/data/augmenter.h"
#include "tandem/core/data/dataset.h"
#include "tandem/core/model/model.h"
#include "tandem/core/training/figures.h"

namespace tandem {

/// Runs the whole model over every example in evaluation mode, without gradients and without random
/// augmentation, `batch_size` at a time on `compute`, and leaves the model in training mode. A data set
/// must hold at least one example.
Figures evaluate(ModelPart model, const Dataset& dataset, const Augmenter& augmenter, int64_t batch_size,
                 at::Device compute);

}  // namespace tandem
