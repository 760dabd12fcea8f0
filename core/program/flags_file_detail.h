#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "tandem/core/base/result.h"
#include "tandem/core/program/flag_detail.h"
#include "tandem/core/program/flags.h"

namespace tandem::detail {

/// Stores the values of a TOML file, whose keys are flags, each at the top or in the table of its section.
/// Stops at the first mistake, by line; the error names the key, the file and the line. Keys that are flags
/// of earlier versions are added to `replaced`.
Result<void> apply_file(const std::filesystem::path& file, FlagTable& flags,
                        std::vector<GivenReplaced>& replaced);

/// The values now in force as such a file; paths inside of `folder` are relative to it, others absolute.
std::string file_text(const FlagTable& flags, const std::filesystem::path& folder);

/// The flags of the run whose values in the file are others than those now in force. Keys that the file lacks
/// differ from nothing, and what is no flag (of this version) is passed over. kInvalidArgument names a key
/// that is a flag of earlier versions, with its present spelling.
Result<std::vector<FlagDifference>> differences_from(const std::filesystem::path& file,
                                                     const FlagTable& flags);

}  // namespace tandem::detail
