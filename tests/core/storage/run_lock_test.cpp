#include "tandem/core/storage/run_lock.h"

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <optional>
#include <string>

#include "core/storage/storage_support.h"
#include "support/test.h"

using namespace tandem;
namespace fs = std::filesystem;

namespace {

/// Another process that holds the lock of a directory until it is killed.
class Holder {
 public:
  explicit Holder(const fs::path& directory) {
    int ready[2];
    REQUIRE(::pipe(ready) == 0);
    pid_ = ::fork();
    if (pid_ == 0) {
      const auto lock = RunLock::acquire(directory);
      const char answer = lock ? 'y' : 'n';
      if (::write(ready[1], &answer, 1) != 1) ::_exit(1);
      for (;;) ::pause();
    }
    ::close(ready[1]);
    char answer = 0;
    const bool told = ::read(ready[0], &answer, 1) == 1;
    ::close(ready[0]);
    REQUIRE(told);
    REQUIRE(answer == 'y');
  }
  ~Holder() { kill(); }
  Holder(const Holder&) = delete;
  Holder& operator=(const Holder&) = delete;

  pid_t pid() const { return pid_; }
  void kill() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }

 private:
  pid_t pid_ = 0;
};

}  // namespace

TEST_SUITE("core/storage/run_lock") {
  TEST_CASE("a second holder is refused and told who is first") {
    const TemporaryDirectory directory;
    Holder holder(directory.path());
    const auto lock = RunLock::acquire(directory.path());
    REQUIRE_FALSE(lock.has_value());
    CHECK((lock.error().code == ErrorCode::kRefused));
    char host[256] = {};
    ::gethostname(host, sizeof(host) - 1);
    CHECK(lock.error().message == directory.path().string() + " is in use by process " +
                                      std::to_string(holder.pid()) + " on host " + host +
                                      " (run.lock is locked); stop it or choose another --run-dir");
  }

  TEST_CASE("a killed holder holds no more") {
    const TemporaryDirectory directory;
    Holder holder(directory.path());
    holder.kill();
    CHECK(names_in(directory.path()) == std::vector<std::string>{"run.lock"});
    {
      const auto lock = RunLock::acquire(directory.path());
      REQUIRE_MESSAGE(lock.has_value(), lock.error().message);
    }
    CHECK(names_in(directory.path()).empty());
  }

  TEST_CASE("letting go removes the file and lets the next in, also within one process") {
    const TemporaryDirectory directory;
    for (int i = 0; i < 3; ++i) {
      auto first = RunLock::acquire(directory.path());
      REQUIRE(first.has_value());
      CHECK((RunLock::acquire(directory.path()).error().code == ErrorCode::kRefused));
      const RunLock moved = std::move(*first);
      CHECK((RunLock::acquire(directory.path()).error().code == ErrorCode::kRefused));
    }
    CHECK(names_in(directory.path()).empty());
  }

  TEST_CASE("a lock file that somebody removed and locked anew stays when the first lets go") {
    const TemporaryDirectory directory;
    std::optional<RunLock> first = RunLock::acquire(directory.path()).value();
    fs::remove(directory.path() / "run.lock");
    const auto second = RunLock::acquire(directory.path());
    REQUIRE(second.has_value());
    first.reset();
    CHECK(names_in(directory.path()) == std::vector<std::string>{"run.lock"});
  }

  TEST_CASE("a missing directory and a link in the place of the lock are named") {
    const TemporaryDirectory directory;
    const auto missing = RunLock::acquire(directory.path() / "missing");
    REQUIRE_FALSE(missing.has_value());
    CHECK((missing.error().code == ErrorCode::kIo));
    CHECK(missing.error().message ==
          "cannot open " + directory.path().string() + "/missing/run.lock: No such file or directory");
    fs::create_symlink(directory.path() / "elsewhere", directory.path() / "run.lock");
    CHECK((RunLock::acquire(directory.path()).error().code == ErrorCode::kIo));
    CHECK_FALSE(fs::exists(directory.path() / "elsewhere"));
  }
}
