#pragma once

#include <filesystem>
#include <string>

#include "tandem/core/base/result.h"

namespace tandem {

/// Writes the address that was bound, a line, for whoever waits for it. `flag` names the file, such as
/// "--endpoint-file". Replaces such a file of an earlier start, and an empty one; anything else stays as it
/// is (kInvalidArgument): a slip of the hand must not cost a key or a configuration.
Result<void> write_address_file(const std::string& flag, const std::filesystem::path& path,
                                const std::string& address);

}  // namespace tandem
