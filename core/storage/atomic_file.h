#pragma once

#include <filesystem>
#include <initializer_list>
#include <string>
#include <string_view>

#include "tandem/core/base/result.h"

namespace tandem {

/// Writes a file so that a reader sees the old content or the new, never a part: into a temporary file
/// beside it, fsync, rename, fsync of the directory. `mode` are the permission bits. On failure (full
/// disk, read-only directory) nothing is left behind and kIo names the path and the system's reason.
Result<void> write_file_atomically(const std::filesystem::path& path,
                                   std::initializer_list<std::string_view> parts, int mode = 0644);

/// The whole file; kNotFound or kIo name the path and the system's reason.
Result<std::string> read_file(const std::filesystem::path& path);

/// Lower-case hexadecimal SHA-256.
std::string sha256_hex(std::initializer_list<std::string_view> parts);

}  // namespace tandem
