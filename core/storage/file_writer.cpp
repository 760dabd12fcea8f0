#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <system_error>

#include "tandem/core/storage/file_writer_detail.h"
#include "tandem/core/storage/storage_syscalls_detail.h"

namespace tandem {
namespace {

namespace fs = std::filesystem;

/// Of making a temporary file while others keep making and removing it.
constexpr int kMostAttempts = 1000;

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
    case EIO:
      return "; the disk is failing: look at the kernel's log and choose another --run-dir";
    case ENAMETOOLONG:
      return "; choose a shorter path";
    case EMFILE:
    case ENFILE:
      return "; raise the limit of open files (ulimit -n)";
    default:
      return "";
  }
}

/// `call` again for as long as a signal interrupts it.
template <class Call>
auto uninterrupted(Call call) {
  for (;;) {
    const auto result = call();
    if (result >= 0 || errno != EINTR) return result;
  }
}

FileDescriptor open_file(const fs::path& path, int flags, mode_t mode = 0) {
  return FileDescriptor(
      uninterrupted([&] { return storage_syscalls().open(path.c_str(), flags | O_CLOEXEC, mode); }));
}

/// Removes a temporary file that a crash left behind, after waiting for a writer that lives. Only who holds
/// the lock of a temporary file removes it, so nobody's is removed under his hands.
Result<void> clear_temporary(const fs::path& temporary, const fs::path& path) {
  const FileDescriptor old = open_file(temporary, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  if (!old.is_open()) {
    if (errno == ENOENT) return {};
    return io_error(temporary, "open, left from writing " + path.filename().string() + ",", errno);
  }
  if (const int reason = lock_file(old.get(), true); reason != 0) {
    return io_error(temporary, "lock", reason);
  }
  if (!is_same_file(old.get(), temporary)) return {};
  if (const int reason = remove_file(temporary); reason != 0) {
    return io_error(temporary, "remove, left from an interrupted write,", reason);
  }
  return {};
}

}  // namespace

const StorageSyscalls kKernelSyscalls = {
    .open = [](const char* path, int flags, mode_t mode) { return ::open(path, flags, mode); },
    .write = ::write,
    .fsync = ::fsync,
    .fdatasync = ::fdatasync,
    .close = ::close,
    .rename = std::rename,
    .unlink = ::unlink,
    .mkdir = ::mkdir,
};

StorageSyscalls& storage_syscalls() {
  static StorageSyscalls in_force = kKernelSyscalls;
  return in_force;
}

Error io_error(const fs::path& path, const std::string& action, int reason) {
  return Error{ErrorCode::kIo,
               "cannot " + action + " " + path.string() + ": " + std::strerror(reason) + hint(reason)};
}

int FileDescriptor::close() {
  // Not repeated after EINTR: Linux has closed it by then, and the number may be another file's.
  return value_ < 0 ? 0 : storage_syscalls().close(std::exchange(value_, -1));
}

Result<FileWriter> FileWriter::create(const fs::path& path, int mode) {
  FileDescriptor file = open_file(path, O_WRONLY | O_CREAT | O_EXCL, static_cast<mode_t>(mode));
  if (!file.is_open()) {
    const int reason = errno;
    Error error = io_error(path, "create", reason);
    if (reason == EEXIST) error.code = ErrorCode::kInvalidArgument;
    return error;
  }
  return FileWriter(std::move(file), path, path);
}

Result<FileWriter> FileWriter::create_temporary(const fs::path& path, int mode) {
  fs::path temporary = directory_of(path) / ".";
  temporary += path.filename();
  temporary += ".tmp";
  for (int attempt = 0; attempt < kMostAttempts; ++attempt) {
    FileDescriptor file = open_file(temporary, O_WRONLY | O_CREAT | O_EXCL, static_cast<mode_t>(mode));
    if (!file.is_open() && errno == EEXIST) {
      if (auto cleared = clear_temporary(temporary, path); !cleared) return cleared.error();
      continue;
    }
    if (!file.is_open()) return io_error(path, "create a temporary file for", errno);
    // Between creating and locking it another process may take it for a leftover; then it is made again.
    // A file system without locks has to do without this protection.
    const int reason = lock_file(file.get(), false);
    if (reason == EWOULDBLOCK || !is_same_file(file.get(), temporary)) continue;
    return FileWriter(std::move(file), temporary, path);
  }
  return io_error(path, "create a temporary file for", EBUSY);
}

FileWriter::~FileWriter() {
  if (!written_.empty()) remove_file(written_);
}

Result<void> FileWriter::write(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t count =
        uninterrupted([&] { return storage_syscalls().write(file_.get(), bytes.data(), bytes.size()); });
    if (count < 0) return io_error(path_, "write", errno);
    // POSIX allows it for nothing but an empty write; a file system that does it anyway is full.
    if (count == 0) return io_error(path_, "write", ENOSPC);
    bytes.remove_prefix(static_cast<size_t>(count));
  }
  return {};
}

void FileWriter::start_writeback() {
  ::sync_file_range(file_.get(), 0, 0, SYNC_FILE_RANGE_WRITE);
}

Result<void> FileWriter::sync() {
  // After a failure the kernel has given up the data it could not write: trying again would say 0.
  if (uninterrupted([&] { return storage_syscalls().fdatasync(file_.get()); }) != 0) {
    return io_error(path_, "write to the disk", errno);
  }
  return {};
}

Result<void> FileWriter::put_in_place() {
  if (storage_syscalls().rename(written_.c_str(), path_.c_str()) != 0) {
    return io_error(path_, "put a new file in the place of", errno);
  }
  keep();
  return {};
}

Result<void> sync_directory(const fs::path& directory) {
  const FileDescriptor file = open_file(directory, O_RDONLY | O_DIRECTORY);
  if (!file.is_open()) return io_error(directory, "open directory", errno);
  // Some file systems cannot sync a directory and say EINVAL.
  if (uninterrupted([&] { return storage_syscalls().fsync(file.get()); }) != 0 && errno != EINVAL) {
    return io_error(directory, "sync directory", errno);
  }
  return {};
}

Result<void> make_directories(const fs::path& directory) {
  std::error_code ignored;
  if (directory.empty() || fs::is_directory(directory, ignored)) return {};
  const fs::path parent = directory.parent_path();
  if (parent != directory) {
    if (auto made = make_directories(parent); !made) return made;
  }
  if (storage_syscalls().mkdir(directory.c_str(), 0777) != 0) {
    const int reason = errno;
    if (fs::is_directory(directory, ignored)) return {};
    return io_error(directory, "create directory", reason);
  }
  return sync_directory(directory_of(directory));
}

int remove_file(const fs::path& path) {
  return storage_syscalls().unlink(path.c_str()) == 0 || errno == ENOENT ? 0 : errno;
}

fs::path directory_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

bool is_same_file(int file, const fs::path& path) {
  struct stat opened {};
  struct stat named {};
  return ::fstat(file, &opened) == 0 && ::lstat(path.c_str(), &named) == 0 && opened.st_dev == named.st_dev &&
         opened.st_ino == named.st_ino;
}

int lock_file(int file, bool wait) {
  return uninterrupted([&] { return ::flock(file, LOCK_EX | (wait ? 0 : LOCK_NB)); }) == 0 ? 0 : errno;
}

}  // namespace tandem
