#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "tandem/core/base/result.h"
#include "tandem/core/config/flag_detail.h"

namespace tandem::detail {

/// Stores the values of a TOML file, whose keys are flags. Stops at the first mistake, by line; the error
/// names the key, the file and the line.
Result<void> apply_file(const std::filesystem::path& file, std::vector<Flag>& flags);

/// The values now in force as such a file.
std::string file_text(const std::vector<Flag>& flags);

}  // namespace tandem::detail
