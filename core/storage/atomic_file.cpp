#include "tandem/core/storage/atomic_file.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <utility>

namespace tandem {
namespace {

namespace fs = std::filesystem;

class FileDescriptor {
 public:
  explicit FileDescriptor(int value) : value_(value) {}
  ~FileDescriptor() {
    if (value_ >= 0) ::close(value_);
  }
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;

  int get() const { return value_; }
  bool open() const { return value_ >= 0; }
  /// 0, or -1 with errno. Some file systems report a full disk only here.
  int close() { return ::close(std::exchange(value_, -1)); }

 private:
  int value_;
};

const char* hint(int reason) {
  switch (reason) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return "; free space there or choose another --run-dir";
    case EACCES:
    case EPERM:
    case EROFS:
      return "; choose a directory this user may write to";
    default:
      return "";
  }
}

Error io_error(const fs::path& path, const std::string& action, int reason) {
  return Error{ErrorCode::kIo,
               "cannot " + action + " " + path.string() + ": " + std::strerror(reason) + hint(reason)};
}

/// 0 or errno.
int write_fully(int file, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(file, bytes.data(), bytes.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      return errno;
    }
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return 0;
}

/// Writes, syncs and closes; the name and errno of the step that failed, if one did.
std::optional<std::pair<const char*, int>> fill(FileDescriptor& file,
                                                std::initializer_list<std::string_view> parts, int mode) {
  // mkostemp gives 0600; nobody else opens the file before it has its contents and its final mode.
  for (const std::string_view part : parts) {
    if (const int reason = write_fully(file.get(), part); reason != 0) return std::pair("write", reason);
  }
  if (::fchmod(file.get(), static_cast<mode_t>(mode)) != 0) return std::pair("set the mode of", errno);
  if (::fsync(file.get()) != 0) return std::pair("write to the disk", errno);
  if (file.close() != 0) return std::pair("close", errno);
  return std::nullopt;
}

/// The rename itself is durable only when its directory is.
Result<void> sync_directory(const fs::path& directory) {
  const FileDescriptor file(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!file.open()) return io_error(directory, "open directory", errno);
  // Some file systems cannot sync a directory and say EINVAL.
  if (::fsync(file.get()) != 0 && errno != EINVAL) return io_error(directory, "sync directory", errno);
  return {};
}

}  // namespace

Result<void> write_file_atomically(const fs::path& path, std::initializer_list<std::string_view> parts,
                                   int mode) {
  const fs::path directory = path.has_parent_path() ? path.parent_path() : fs::path(".");
  std::string temporary = (directory / ".").string();
  temporary += path.filename().string() + ".tmp-XXXXXX";
  FileDescriptor file(::mkostemp(temporary.data(), O_CLOEXEC));
  if (!file.open()) return io_error(path, "create a temporary file for", errno);
  if (const auto failed = fill(file, parts, mode)) {
    ::unlink(temporary.c_str());
    return io_error(path, failed->first, failed->second);
  }
  if (::rename(temporary.c_str(), path.c_str()) != 0) {
    const int reason = errno;
    ::unlink(temporary.c_str());
    return io_error(path, "put a new file in the place of", reason);
  }
  return sync_directory(directory);
}

Result<std::string> read_file(const fs::path& path) {
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.open()) {
    const int reason = errno;
    Error error = io_error(path, "open", reason);
    if (reason == ENOENT || reason == ENOTDIR) error.code = ErrorCode::kNotFound;
    return error;
  }
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

std::string sha256_hex(std::initializer_list<std::string_view> parts) {
  struct FreeContext {
    void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
  };
  const std::unique_ptr<EVP_MD_CTX, FreeContext> context(EVP_MD_CTX_new());
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  bool good = context != nullptr && EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr) == 1;
  for (const std::string_view part : parts) {
    good = good && EVP_DigestUpdate(context.get(), part.data(), part.size()) == 1;
  }
  good = good && EVP_DigestFinal_ex(context.get(), digest, &size) == 1;
  if (!good) throw std::runtime_error("OpenSSL could not compute a SHA-256");
  std::string text;
  for (unsigned int i = 0; i < size; ++i) {
    text += "0123456789abcdef"[digest[i] >> 4];
    text += "0123456789abcdef"[digest[i] & 0xf];
  }
  return text;
}

}  // namespace tandem
