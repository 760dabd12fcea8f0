#pragma once

#include <filesystem>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "tandem/core/base/result.h"

namespace tandem {

/// Writes a file so that a reader sees the old content or the new, never a part, whenever the process or
/// the machine stops: into the temporary file `.NAME.tmp` beside it, fsync, rename, fsync of the directory.
/// `mode` are the permission bits. On failure (full disk, read-only directory) nothing is left behind and
/// kIo names the path, the system's reason and what to do; what a kill leaves behind, the next write of the
/// same path replaces. Processes that write one path at the same time take turns.
Result<void> write_file_atomically(const std::filesystem::path& path,
                                   std::initializer_list<std::string_view> parts, int mode = 0644);
Result<void> write_parts_atomically(const std::filesystem::path& path,
                                    const std::vector<std::string_view>& parts, int mode = 0644);

/// The whole file; kNotFound or kIo name the path and the system's reason.
Result<std::string> read_file(const std::filesystem::path& path);

/// The whole of a file that holds a secret; who reads it wipes it. kInvalidArgument says which chmod to run
/// when group or others can access the file.
Result<std::string> read_secret_file(const std::filesystem::path& path);

/// Lower-case hexadecimal SHA-256.
std::string sha256_hex(std::initializer_list<std::string_view> parts);

}  // namespace tandem
