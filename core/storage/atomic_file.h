#pragma once

#include <filesystem>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "tandem/core/base/result.h"

namespace tandem {

/// The permission bits of files that hold no secret; the process's umask takes away what it takes away.
inline constexpr int kPublicMode = 0666;
/// Those of files that hold a secret.
inline constexpr int kSecretMode = 0600;

/// Writes a file so that a reader sees the old content or the new, never a part, whenever the process or
/// the machine stops: into the temporary file `.NAME.tmp` beside it, fsync, rename, fsync of the directory.
/// `mode`: kPublicMode or kSecretMode. On failure (full disk, read-only directory) nothing is left behind and
/// kIo names the path, the system's reason and what to do; what a kill leaves behind, the next write of the
/// same path replaces. Processes that write one path at the same time take turns.
Result<void> write_file_atomically(const std::filesystem::path& path,
                                   std::initializer_list<std::string_view> parts, int mode = kPublicMode);
Result<void> write_parts_atomically(const std::filesystem::path& path,
                                    const std::vector<std::string_view>& parts, int mode = kPublicMode);

/// As write_file_atomically, under a name that nothing has yet: nothing is ever overwritten. kInvalidArgument
/// says that there is a file already, and `remedy`.
Result<void> write_new_file(const std::filesystem::path& path, std::initializer_list<std::string_view> parts,
                            int mode = kPublicMode,
                            const std::string& remedy = "choose another name or move it away");

/// The whole file; kNotFound or kIo name the path and the system's reason, and where it is a matter of
/// permissions whose the file is and who asks.
Result<std::string> read_file(const std::filesystem::path& path);

/// The whole of a file that holds a secret; who reads it wipes it. Only the owner may have access to it; one
/// that belongs to root may be readable by its group too, as secret volumes and service managers hand them
/// out (0440). Else kInvalidArgument says which chmod to run.
Result<std::string> read_secret_file(const std::filesystem::path& path);

/// Lower-case hexadecimal SHA-256.
std::string sha256_hex(std::initializer_list<std::string_view> parts);

}  // namespace tandem
