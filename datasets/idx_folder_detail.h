#pragma once

#include <filesystem>

#include "tandem/core/base/result.h"
#include "tandem/datasets/data_source.h"

namespace tandem::datasets {

/// The two files of one half of a data set.
struct IdxFiles {
  std::filesystem::path images;
  std::filesystem::path labels;
};

/// Finds them by the ends of their names: train-images-idx3-ubyte and train-labels-idx1-ubyte behind any
/// prefix, with dots or underscores for dashes, `test` for `t10k`, any rank and element type, `.gz` or not.
/// Hidden files do not count; of NAME and NAME.gz, which some programs leave side by side, NAME is taken.
///
/// kNotFound says what is missing and what the folder holds, kInvalidArgument names the files of which each
/// could be meant, kIo is the file system's: no folder, not readable.
Result<IdxFiles> find_idx_files(const std::filesystem::path& directory, Split split);

}  // namespace tandem::datasets
