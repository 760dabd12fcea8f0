#include "tandem/core/storage/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <new>
#include <stdexcept>

#include "tandem/core/storage/file_writer_detail.h"
#include "tandem/core/storage/sha256_detail.h"

namespace tandem {
namespace {

namespace fs = std::filesystem;

template <class Parts>
Result<void> write_atomically(const fs::path& path, const Parts& parts, int mode) {
  auto file = FileWriter::create_temporary(path, mode);
  if (!file) return file.error();
  for (const std::string_view part : parts) {
    if (auto written = file->write(part); !written) return written;
  }
  if (auto synced = file->sync(); !synced) return synced;
  if (auto renamed = file->put_in_place(); !renamed) return renamed;
  return sync_directory(directory_of(path));
}

Result<FileDescriptor> open_to_read(const fs::path& path) {
  FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.is_open()) return file;
  const int reason = errno;
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
/// file that is checked.
Result<void> check_private(const FileDescriptor& file, const fs::path& path) {
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) return io_error(path, "read", errno);
  const unsigned mode = status.st_mode & 07777;
  if ((mode & 077) == 0) return {};
  std::array<char, 8> octal{};
  std::snprintf(octal.data(), octal.size(), "%04o", mode);
  return Error{ErrorCode::kInvalidArgument, path.string() + ": key file has mode " + octal.data() +
                                                ", so others can access the secret key; run: chmod 600 " +
                                                path.string()};
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
