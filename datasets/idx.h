#pragma once

#include <filesystem>
#include <memory>

#include <ATen/core/Tensor.h>

#include "tandem/core/base/result.h"
#include "tandem/datasets/data_source.h"
#include "tandem/datasets/tensor_dataset.h"

namespace tandem::datasets {

/// Reads one half of a data set in MNIST's format from the four files of the usual names,
/// {train,t10k}-images-idx3-ubyte and {train,t10k}-labels-idx1-ubyte, each plain or with .gz (plain first
/// where both exist). Inputs are uint8 [N, 1, rows, columns]; num_classes is the largest label + 1, at
/// least 2.
///
/// kNotFound names what was looked for and how to get it; kCorrupt the file, what it should hold and what
/// it holds: nothing is taken from a file that is shorter or longer than its header says.
Result<std::shared_ptr<const TensorDataset>> read_idx(const std::filesystem::path& directory, Split split);

/// One image file, plain or gzip: uint8 [count, 1, rows, columns].
Result<at::Tensor> read_idx_images(const std::filesystem::path& file);

/// One label file, plain or gzip: int64 [count], each in 0..255.
Result<at::Tensor> read_idx_labels(const std::filesystem::path& file);

}  // namespace tandem::datasets
