#include "tandem/core/storage/file_lock.h"

#include <sys/wait.h>
#include <unistd.h>

#include <optional>
#include <string>
#include <vector>

#include "core/storage/storage_support.h"
#include "support/test.h"
#include "tandem/core/storage/atomic_file.h"

using namespace tandem;
namespace fs = std::filesystem;

namespace {

/// Adds a line to a file, `times` times, each time by reading it whole and writing it anew under the lock.
void append_lines(const fs::path& directory, int times) {
  for (int i = 0; i < times; ++i) {
    const auto lock = FileLock::take(directory / "list.lock", [](const std::string&) {});
    if (!lock) ::_exit(2);
    const auto text = read_file(directory / "list");
    if (!write_file_atomically(directory / "list", {text ? *text : "", "x"})) ::_exit(3);
  }
  ::_exit(0);
}

}  // namespace

TEST_SUITE("core/storage/file_lock") {
  TEST_CASE("what many processes change at once under the lock loses no change") {
    const TemporaryDirectory directory;
    constexpr int kProcesses = 16;
    constexpr int kTimes = 20;
    std::vector<pid_t> children;
    for (int i = 0; i < kProcesses; ++i) {
      const pid_t child = ::fork();
      if (child == 0) append_lines(directory.path(), kTimes);
      REQUIRE(child > 0);
      children.push_back(child);
    }
    for (const pid_t child : children) {
      int status = 0;
      REQUIRE(::waitpid(child, &status, 0) == child);
      CHECK(status == 0);
    }
    CHECK(read_file(directory.path() / "list").value() == std::string(kProcesses * kTimes, 'x'));
    CHECK(names_in(directory.path()) == std::vector<std::string>{"list"});
  }

  TEST_CASE("whoever waits is told for whom, once") {
    const TemporaryDirectory directory;
    const fs::path path = directory.path() / "list.lock";
    int go[2];
    int told[2];
    REQUIRE(::pipe(go) == 0);
    REQUIRE(::pipe(told) == 0);
    // Forked before the lock is taken: a descriptor that both had would keep it locked.
    const pid_t child = ::fork();
    if (child == 0) {
      char ready = 0;
      if (::read(go[0], &ready, 1) != 1) ::_exit(2);
      const auto lock = FileLock::take(path, [&](const std::string& holder) {
        const std::string line = holder + "\n";
        if (::write(told[1], line.data(), line.size()) < 0) ::_exit(3);
      });
      ::_exit(lock ? 0 : 1);
    }
    REQUIRE(child > 0);
    std::optional<FileLock> held = FileLock::try_to_take(path).value();
    CHECK(FileLock::try_to_take(path).error().code == ErrorCode::kRefused);
    REQUIRE(::write(go[1], "g", 1) == 1);
    std::string holder;
    for (char c = 0; ::read(told[0], &c, 1) == 1 && c != '\n';) holder += c;
    CHECK(holder.starts_with("process " + std::to_string(::getpid()) + " on host "));
    held.reset();
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(status == 0);
    for (const int end : {go[0], go[1], told[0], told[1]}) ::close(end);
  }
}
