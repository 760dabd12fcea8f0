#pragma once

#include <string>

#include "tandem/core/base/result.h"
#include "tandem/core/model/named_tensors.h"

namespace tandem {

/// Weights to start from, as any program may have written them: in any order, of another precision.
struct InitialWeights {
  NamedTensors tensors;
  std::string source;  ///< for messages: "--init FILE"
  std::string model;   ///< the model they were written for; empty if the file does not say
};

/// The weights as a model takes them, and what was done to them, for the operator.
struct FittedWeights {
  NamedTensors tensors;
  std::string note;  ///< empty where nothing was converted
};

/// Takes from `weights` what `layout` names, whatever the order; the result has the names, order, shapes and
/// dtypes of `layout`. A prefix that all names share (`module.` of DataParallel, `_orig_mod.` of
/// torch.compile) is taken off. Half, bfloat16 and double precision become float32; counters may come as any
/// whole numbers. kShapeMismatch lists at once what is missing, unknown, or of another shape or kind, with
/// the nearest names; kNonFinite names the tensors that hold NaN or infinity, or values beyond float32.
/// `layout` is not changed.
Result<FittedWeights> fit_weights(const NamedTensors& layout, const InitialWeights& weights);

/// What of fit_weights can be said before the shapes are known: whether every name is there and no other.
Result<void> check_weight_names(const NamedTensors& layout, const InitialWeights& weights);

}  // namespace tandem
