#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "tandem/core/base/result.h"
#include "tandem/core/program/flag_detail.h"
#include "tandem/core/program/flags.h"

namespace tandem::detail {

/// Stores the values of a TOML file, whose keys are flags. Stops at the first mistake, by line; the error
/// names the key, the file and the line. A key that is one of `removed` is such a mistake.
Result<void> apply_file(const std::filesystem::path& file, const std::vector<RemovedFlag>& removed,
                        std::vector<Flag>& flags);

/// The values now in force as such a file; paths inside of `folder` are relative to it, others absolute.
std::string file_text(const std::vector<Flag>& flags, const std::filesystem::path& folder);

/// The flags of the run whose values in the file are others than those now in force. Keys that the file lacks
/// differ from nothing, and what is no flag (of this version) is passed over.
Result<std::vector<FlagDifference>> differences_from(const std::filesystem::path& file,
                                                     const std::vector<Flag>& flags);

}  // namespace tandem::detail
