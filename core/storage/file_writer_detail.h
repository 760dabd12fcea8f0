// How core/storage writes files: what atomic_file.cpp and checkpoint.cpp share.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <utility>

#include "tandem/core/base/result.h"

namespace tandem {

/// kIo: "cannot ACTION PATH: the system's reason; what to do".
Error io_error(const std::filesystem::path& path, const std::string& action, int reason);

class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int value) : value_(value) {}
  ~FileDescriptor() { close(); }
  FileDescriptor(FileDescriptor&& other) noexcept : value_(std::exchange(other.value_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    if (this != &other) {
      close();
      value_ = std::exchange(other.value_, -1);
    }
    return *this;
  }

  int get() const { return value_; }
  bool is_open() const { return value_ >= 0; }
  /// 0, or -1 with errno. What was synced before is safe whatever it says.
  int close();

 private:
  int value_ = -1;
};

/// A file that is being written. Unless it is kept, or put in its place, it is removed again.
class FileWriter {
 public:
  /// A new file of that name; kInvalidArgument when there is one already, whatever it is. `mode`: the
  /// permission bits, less those of the process's umask.
  static Result<FileWriter> create(const std::filesystem::path& path, int mode);
  /// The temporary file of `path`: `.NAME.tmp` beside it, with the mode of the file to be. One that a crash
  /// left behind is replaced; while another process is writing one, this waits for it.
  static Result<FileWriter> create_temporary(const std::filesystem::path& path, int mode);

  FileWriter(FileWriter&& other) noexcept
      : file_(std::move(other.file_)),
        written_(std::exchange(other.written_, {})),
        path_(std::move(other.path_)) {}
  FileWriter& operator=(FileWriter&& other) = delete;
  ~FileWriter();

  /// The whole of `bytes`, after what was written before.
  Result<void> write(std::string_view bytes);
  /// Has the disk begin with what was written, so that `sync` waits less; promises nothing.
  void start_writeback();
  /// Waits until the contents are on the disk.
  Result<void> sync();
  /// Only for a temporary file: it takes the place of `path`. Durable when the directory is, too.
  Result<void> put_in_place();
  /// It stays.
  void keep() { written_.clear(); }

  const std::filesystem::path& path() const { return path_; }

 private:
  FileWriter(FileDescriptor file, std::filesystem::path written, std::filesystem::path path)
      : file_(std::move(file)), written_(std::move(written)), path_(std::move(path)) {}

  FileDescriptor file_;
  std::filesystem::path written_;  // what the destructor removes; empty: nothing
  std::filesystem::path path_;     // what errors name
};

/// The names in a directory are durable only when it is.
Result<void> sync_directory(const std::filesystem::path& directory);

/// Makes a directory and its parents, where they are missing, durably.
Result<void> make_directories(const std::filesystem::path& directory);

/// 0 or errno.
int remove_file(const std::filesystem::path& path);

/// The directory that holds `path`.
std::filesystem::path directory_of(const std::filesystem::path& path);

/// Whether `file` (open) is what `path` names: not when somebody removed or replaced it meanwhile.
bool is_same_file(int file, const std::filesystem::path& path);

/// Waits for, or with `wait` false only tries, an exclusive advisory lock. 0 or errno.
int lock_file(int file, bool wait);

}  // namespace tandem
