#include "tandem/core/storage/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <new>
#include <stdexcept>

#include "tandem/core/storage/file_writer_detail.h"
#include "tandem/core/storage/sha256_detail.h"

namespace tandem {
namespace {

namespace fs = std::filesystem;

template <class Parts>
Result<void> write_and_put_in_place(FileWriter& file, const Parts& parts, const fs::path& path) {
  for (const std::string_view part : parts) {
    if (auto written = file.write(part); !written) return written;
  }
  if (auto synced = file.sync(); !synced) return synced;
  if (auto renamed = file.put_in_place(); !renamed) return renamed;
  return sync_directory(directory_of(path));
}

template <class Parts>
Result<void> write_atomically(const fs::path& path, const Parts& parts, int mode) {
  auto file = FileWriter::create_temporary(path, mode);
  if (!file) return file.error();
  return write_and_put_in_place(*file, parts, path);
}

std::string octal(mode_t mode) {
  std::array<char, 8> text{};
  std::snprintf(text.data(), text.size(), "%04o", static_cast<unsigned>(mode & 07777));
  return text.data();
}

std::string user_and_group(uid_t user, gid_t group) {
  return "user " + std::to_string(user) + ", group " + std::to_string(group);
}

/// What a chown or chmod has to change where the system said "Permission denied".
std::string why_denied(const fs::path& path) {
  const std::string we = "; this program runs as " + user_and_group(::geteuid(), ::getegid());
  struct stat status {};
  if (::stat(path.c_str(), &status) == 0) {
    return we + ", the file belongs to " + user_and_group(status.st_uid, status.st_gid) + " and has mode " +
           octal(status.st_mode) + ": let it read the file (chown, chmod)";
  }
  fs::path entered;
  for (const fs::path& part : directory_of(path)) {
    entered /= part;
    if (::faccessat(AT_FDCWD, entered.c_str(), X_OK, AT_EACCESS) != 0) break;
  }
  return we + ", which may not enter the folder " + entered.string() + ": let it (chown, chmod)";
}

Result<FileDescriptor> open_to_read(const fs::path& path) {
  FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.is_open()) return file;
  const int reason = errno;
  if (reason == EACCES || reason == EPERM) {
    return Error{ErrorCode::kIo,
                 "cannot read " + path.string() + ": " + std::strerror(reason) + why_denied(path)};
  }
  Error error = io_error(path, "open", reason);
  if (reason == ENOENT || reason == ENOTDIR) error.code = ErrorCode::kNotFound;
  return error;
}

Result<std::string> read_all(const FileDescriptor& file, const fs::path& path) {
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) return io_error(path, "read", errno);
  try {
    // One byte more than the size, so that the read that finds the end needs no growth.
    std::string bytes(static_cast<size_t>(status.st_size) + 1, '\0');
    size_t size = 0;
    for (;;) {
      if (size == bytes.size()) bytes.resize(2 * bytes.size());
      const ssize_t count = ::read(file.get(), bytes.data() + size, bytes.size() - size);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) return io_error(path, "read", errno);
      if (count == 0) break;
      size += static_cast<size_t>(count);
    }
    bytes.resize(size);
    return bytes;
  } catch (const std::bad_alloc&) {
    return io_error(path, "read", ENOMEM);
  }
}

/// Whoever opens a file that others can access may be shown another one than was checked, so it is the open
/// file that is checked. What root owns its group may read, as with PostgreSQL's keys: so secret volumes and
/// service managers give a file to a program that is not root, and only root could have put it there.
Result<void> check_private(const FileDescriptor& file, const fs::path& path) {
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) return io_error(path, "read", errno);
  const mode_t forbidden = status.st_uid == 0 ? 0037 : 0077;
  if ((status.st_mode & forbidden) == 0) return {};
  return Error{ErrorCode::kInvalidArgument, path.string() + ": key file has mode " + octal(status.st_mode) +
                                                ", so others can access the secret key; run: chmod 600 " +
                                                path.string() +
                                                " (in a secret volume: mode 0440, owned by root)"};
}

}  // namespace

Result<void> write_file_atomically(const fs::path& path, std::initializer_list<std::string_view> parts,
                                   int mode) {
  return write_atomically(path, parts, mode);
}

Result<void> write_parts_atomically(const fs::path& path, const std::vector<std::string_view>& parts,
                                    int mode) {
  return write_atomically(path, parts, mode);
}

Result<void> write_new_file(const fs::path& path, std::initializer_list<std::string_view> parts, int mode,
                            const std::string& remedy) {
  // Writers of one path take turns from here on, so that no file comes between the question and the rename.
  auto file = FileWriter::create_temporary(path, mode);
  if (!file) return file.error();
  std::error_code ignored;
  if (fs::exists(fs::symlink_status(path, ignored))) {
    return Error{ErrorCode::kInvalidArgument, path.string() + ": there is a file already; " + remedy};
  }
  return write_and_put_in_place(*file, parts, path);
}

Result<std::string> read_file(const fs::path& path) {
  const auto file = open_to_read(path);
  if (!file) return file.error();
  return read_all(*file, path);
}

Result<std::string> read_secret_file(const fs::path& path) {
  const auto file = open_to_read(path);
  if (!file) return file.error();
  if (auto checked = check_private(*file, path); !checked) return checked.error();
  return read_all(*file, path);
}

Sha256::Sha256() : context_(EVP_MD_CTX_new()) {
  if (context_ == nullptr || EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) != 1) {
    throw std::runtime_error("OpenSSL could not begin a SHA-256");
  }
}

void Sha256::update(std::string_view bytes) {
  if (EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()) != 1) {
    throw std::runtime_error("OpenSSL could not compute a SHA-256");
  }
}

std::string Sha256::hex() {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int size = 0;
  if (EVP_DigestFinal_ex(context_.get(), digest.data(), &size) != 1) {
    throw std::runtime_error("OpenSSL could not compute a SHA-256");
  }
  std::string text;
  for (unsigned int i = 0; i < size; ++i) {
    text += "0123456789abcdef"[digest[i] >> 4];
    text += "0123456789abcdef"[digest[i] & 0xf];
  }
  return text;
}

std::string sha256_hex(std::initializer_list<std::string_view> parts) {
  Sha256 sha256;
  for (const std::string_view part : parts) sha256.update(part);
  return sha256.hex();
}

}  // namespace tandem
