#pragma once

#include <filesystem>
#include <memory>

#include <ATen/core/Tensor.h>

#include "tandem/core/base/result.h"
#include "tandem/datasets/data_source.h"
#include "tandem/datasets/tensor_dataset.h"

namespace tandem::datasets {

/// Reads one half of a data set in MNIST's format: its images and its labels, found in `directory` by the
/// ends of their names (see idx_folder_detail.h), each plain or gzip.
///
/// Images become [N, 1, rows, columns] from three dimensions, [N, channels, rows, columns] from four, [N,
/// features] from two: uint8 where the file has unsigned bytes, which the devices divide by 255, otherwise
/// float32 with the values as they are. `declared_classes`: how many classes there are, 0 to find out (see
/// class_count.h; what it warns of is logged).
///
/// kNotFound names what is missing and what the folder holds; kCorrupt the file, what it should hold and what
/// it holds: nothing is taken from a file that is shorter or longer than its header says.
Result<std::shared_ptr<const TensorDataset>> read_idx(const std::filesystem::path& directory, Split split,
                                                      int64_t declared_classes = 0);

/// One image file, plain or gzip, as read_idx describes; values that are not finite are refused.
Result<at::Tensor> read_idx_images(const std::filesystem::path& file);

/// One label file, plain or gzip, of any element type, with one whole number for each example: int64 [N].
Result<at::Tensor> read_idx_labels(const std::filesystem::path& file);

}  // namespace tandem::datasets
