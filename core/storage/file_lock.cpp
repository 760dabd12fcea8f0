#include "tandem/core/storage/file_lock.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

#include "tandem/core/storage/atomic_file.h"
#include "tandem/core/storage/file_writer_detail.h"

namespace tandem {
namespace {

namespace fs = std::filesystem;

/// "process 123 on host cam-1": the number alone misleads where containers share a directory.
std::string who_we_are() {
  std::array<char, 256> host{};
  ::gethostname(host.data(), host.size() - 1);
  return "process " + std::to_string(::getpid()) + " on host " + host.data();
}

std::string holder_of(const fs::path& path) {
  const auto text = read_file(path);
  return text && !text->empty() ? text->substr(0, text->find('\n')) : "another process";
}

/// So that whoever is refused can say by whom. Where the disk is full the lock holds without it.
void write_holder(int file) {
  const std::string text = who_we_are() + "\n";
  if (::ftruncate(file, 0) != 0 || ::pwrite(file, text.data(), text.size(), 0) < 0) return;
}

}  // namespace

struct FileLock::Impl {
  Impl(FileDescriptor locked, fs::path name) : file(std::move(locked)), path(std::move(name)) {}
  // Removed while it is still locked: whoever locked the old file meanwhile sees that it has no name.
  ~Impl() {
    if (is_same_file(file.get(), path)) ::unlink(path.c_str());
  }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  /// `on_wait` is null where nobody waits.
  static Result<FileLock> lock(const fs::path& path,
                               const std::function<void(const std::string& holder)>* on_wait);

  FileDescriptor file;
  fs::path path;
};

Result<FileLock> FileLock::Impl::lock(const fs::path& path,
                                      const std::function<void(const std::string& holder)>* on_wait) {
  bool told = false;
  for (;;) {
    FileDescriptor file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, kPublicMode));
    if (!file.is_open()) return io_error(path, "open", errno);
    int reason = lock_file(file.get(), false);
    if (reason == EWOULDBLOCK) {
      const std::string holder = holder_of(path);
      if (on_wait == nullptr) return Error{ErrorCode::kRefused, holder};
      if (!std::exchange(told, true)) (*on_wait)(holder);
      reason = lock_file(file.get(), true);
    }
    if (reason != 0) return io_error(path, "lock", reason);
    if (!is_same_file(file.get(), path)) continue;  // its holder let go of it and removed it just now
    auto impl = std::make_unique<Impl>(std::move(file), path);
    write_holder(impl->file.get());
    return FileLock(std::move(impl));
  }
}

Result<FileLock> FileLock::try_to_take(const fs::path& path) {
  return Impl::lock(path, nullptr);
}

Result<FileLock> FileLock::take(const fs::path& path,
                                const std::function<void(const std::string& holder)>& on_wait) {
  return Impl::lock(path, &on_wait);
}

FileLock::FileLock(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
FileLock::FileLock(FileLock&&) noexcept = default;
FileLock& FileLock::operator=(FileLock&&) noexcept = default;
FileLock::~FileLock() = default;

}  // namespace tandem
