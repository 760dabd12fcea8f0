#include "tandem/core/storage/run_lock.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>
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

Error in_use(const fs::path& directory, const fs::path& path) {
  const auto text = read_file(path);
  const std::string holder = text && !text->empty() ? text->substr(0, text->find('\n')) : "another process";
  return Error{ErrorCode::kRefused, directory.string() + " is in use by " + holder + " (" +
                                        path.filename().string() +
                                        " is locked); stop it or choose another --run-dir"};
}

/// So that whoever is refused can say by whom. Where the disk is full the lock holds without it.
void write_holder(int file) {
  const std::string text = who_we_are() + "\n";
  if (::ftruncate(file, 0) != 0 || ::pwrite(file, text.data(), text.size(), 0) < 0) return;
}

}  // namespace

struct RunLock::Impl {
  Impl(FileDescriptor locked, fs::path name) : file(std::move(locked)), path(std::move(name)) {}
  // Removed while it is still locked: whoever locked the old file meanwhile sees that it has no name.
  ~Impl() {
    if (is_same_file(file.get(), path)) ::unlink(path.c_str());
  }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  FileDescriptor file;
  fs::path path;
};

Result<RunLock> RunLock::acquire(const fs::path& directory) {
  const fs::path path = directory / "run.lock";
  for (;;) {
    FileDescriptor file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644));
    if (!file.is_open()) return io_error(path, "open", errno);
    const int reason = lock_file(file.get(), false);
    if (reason == EWOULDBLOCK) return in_use(directory, path);
    if (reason != 0) return io_error(path, "lock", reason);
    if (!is_same_file(file.get(), path)) continue;  // its holder let go of it and removed it just now
    auto impl = std::make_unique<Impl>(std::move(file), path);
    write_holder(impl->file.get());
    return RunLock(std::move(impl));
  }
}

RunLock::RunLock(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
RunLock::RunLock(RunLock&&) noexcept = default;
RunLock& RunLock::operator=(RunLock&&) noexcept = default;
RunLock::~RunLock() = default;

}  // namespace tandem
