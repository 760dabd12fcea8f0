#pragma once

#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "tandem/core/base/result.h"

namespace tandem {

/// A tensor and its name, `<block>.<path in the block>`, for example "0.0.weight".
struct NamedTensor {
  std::string name;
  at::Tensor tensor;
};

/// Tensors in model order: by block, parameters and buffers as the block registers them.
/// A copy aliases the same storage; `snapshot` does not.
using NamedTensors = std::vector<NamedTensor>;

/// Deep copies, detached, each in its own memory format. What is kept, sent or averaged is a snapshot.
NamedTensors snapshot(const NamedTensors& tensors);
/// The same on the CPU, ready to be sent.
NamedTensors cpu_snapshot(const NamedTensors& tensors);

/// Writes the values of `from` into the tensors of `to`, in order; both have the same layout.
void copy_values(const NamedTensors& from, const NamedTensors& to);

/// Checks that `candidate` holds the same names, in the same order, with the same shapes and dtypes as
/// `reference`. kShapeMismatch names the first tensor that differs, what was expected and what came.
Result<void> check_same_layout(const NamedTensors& reference, const NamedTensors& candidate);

/// kNonFinite names the first floating-point tensor that holds NaN or infinity.
Result<void> check_finite(const NamedTensors& tensors);

/// Adds `more` to `all`, each name behind `prefix`.
void append(NamedTensors& all, const NamedTensors& more, const std::string& prefix = "");
/// The entries whose names begin with `prefix`, without it, in order; aliases.
NamedTensors without_prefix(const NamedTensors& tensors, const std::string& prefix);
/// The entries of `tensors` that are named like one of `layout`, in their order; aliases.
NamedTensors named_like(const NamedTensors& layout, const NamedTensors& tensors);

/// The entries of blocks [first, last), in order; aliases. Requires names that begin with a block's number.
NamedTensors tensors_of_blocks(const NamedTensors& tensors, int first, int last);

/// Bytes of all tensors.
int64_t total_bytes(const NamedTensors& tensors);

/// The tensor of that name, or null. The pointer is into `tensors`.
const at::Tensor* find_tensor(const NamedTensors& tensors, const std::string& name);

}  // namespace tandem
