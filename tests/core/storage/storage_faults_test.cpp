// Every system call by which storage changes files fails, is interrupted, or is the process's last.
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <fstream>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/storage/storage_support.h"
#include "support/test.h"
#include "tandem/core/storage/atomic_file.h"
#include "tandem/core/storage/checkpoint.h"
#include "tandem/core/storage/seal.h"
#include "tandem/core/storage/storage_syscalls_detail.h"

using namespace tandem;
namespace fs = std::filesystem;
using Names = std::vector<std::string>;

namespace {

enum class Fault {
  kNone,
  kDieBefore,
  kDieAfter,
  kDieHalfWay,     // a write writes half of its bytes first
  kFail,           // this call only
  kFailFromHere,   // and all after it
  kInterruptOnce,  // EINTR
};

struct FaultState {
  int at = 0;
  Fault fault = Fault::kNone;
  int reason = 0;
  int calls = 0;
  const char* met = "none";
};

/// While it lives, the call of that number (from 0) meets that fault.
class FaultyCalls {
 public:
  FaultyCalls(int at, Fault fault, int reason = 0) {
    state_ = {.at = at, .fault = fault, .reason = reason};
    storage_syscalls() = {
        .open =
            [](const char* path, int flags, mode_t mode) {
              return meet("open", [&] { return kKernelSyscalls.open(path, flags, mode); });
            },
        .write =
            [](int file, const void* bytes, size_t count) {
              if (state_.fault == Fault::kDieHalfWay && state_.calls == state_.at) {
                count = count / 2;
              }
              return meet("write", [&] { return kKernelSyscalls.write(file, bytes, count); });
            },
        .fsync = [](int file) { return meet("fsync", [&] { return kKernelSyscalls.fsync(file); }); },
        .fdatasync =
            [](int file) { return meet("fdatasync", [&] { return kKernelSyscalls.fdatasync(file); }); },
        .close =
            [](int file) {
              // Also when it fails, Linux has closed the file.
              if (fails()) kKernelSyscalls.close(file);
              return meet("close", [&] { return kKernelSyscalls.close(file); });
            },
        .rename =
            [](const char* from, const char* to) {
              return meet("rename", [&] { return kKernelSyscalls.rename(from, to); });
            },
        .unlink =
            [](const char* path) { return meet("unlink", [&] { return kKernelSyscalls.unlink(path); }); },
        .mkdir = [](const char* path,
                    mode_t mode) { return meet("mkdir", [&] { return kKernelSyscalls.mkdir(path, mode); }); },
    };
  }
  ~FaultyCalls() { storage_syscalls() = kKernelSyscalls; }
  FaultyCalls(const FaultyCalls&) = delete;
  FaultyCalls& operator=(const FaultyCalls&) = delete;

  /// Whether so many calls were made.
  static bool reached() { return state_.calls > state_.at; }
  /// The name of the call that met the fault.
  static std::string met() { return state_.met; }

 private:
  static bool fails() {
    return (state_.fault == Fault::kFail && state_.calls == state_.at) ||
           (state_.fault == Fault::kFailFromHere && state_.calls >= state_.at);
  }

  template <class Call>
  static auto meet(const char* name, Call call) -> decltype(call()) {
    const bool failing = fails();
    const bool here = state_.calls++ == state_.at;
    if (here) state_.met = name;
    if (here && state_.fault == Fault::kDieBefore) ::raise(SIGKILL);
    if (failing) return errno = state_.reason, -1;
    // Calls that change nothing before they wait may be interrupted; the others are not.
    if (here && state_.fault == Fault::kInterruptOnce && can_be_interrupted(name)) return errno = EINTR, -1;
    const auto result = call();
    if (here && (state_.fault == Fault::kDieAfter || state_.fault == Fault::kDieHalfWay)) ::raise(SIGKILL);
    return result;
  }

  static bool can_be_interrupted(const std::string& name) {
    return name == "open" || name == "write" || name == "fsync" || name == "fdatasync";
  }

  inline static FaultState state_;
};

/// Where syncing costs nothing, if there is such a place: what a killed process leaves is the same anywhere.
fs::path quick_directory() {
  std::error_code ignored;
  return ::access("/dev/shm", W_OK) == 0 ? fs::path("/dev/shm") : fs::temp_directory_path(ignored);
}

/// Runs `act` in a process of its own that dies at the call of that number; false when it made fewer calls.
bool dies_at(int at, Fault fault, const std::function<void()>& act) {
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    const FaultyCalls faulty(at, fault);
    act();
    ::_exit(0);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  if (WIFEXITED(status)) {
    REQUIRE(WEXITSTATUS(status) == 0);
    return false;
  }
  REQUIRE(WTERMSIG(status) == SIGKILL);
  return true;
}

Checkpoint checkpoint(uint32_t round, uint32_t step, int64_t value, int64_t elements = 40'000) {
  Checkpoint point{{round, step}, {}, {{"value", std::to_string(value)}}};
  point.tensors = {{"0.weight", at::full({elements}, value, at::TensorOptions().dtype(at::kLong))},
                   {"0.steps", at::scalar_tensor(value, at::kLong)}};
  return point;
}

/// The value of the newest checkpoint, which must be whole and found without a warning; nothing when there
/// is none at all.
std::optional<int64_t> newest_value(const CheckpointStoreOptions& options) {
  Names warnings;
  const auto found = CheckpointStore(options).load_newest(warnings);
  CHECK(warnings == Names{});
  if (!found) {
    CHECK(found.error().message == "no good checkpoint in " + options.directory.string() + ", 0 damaged");
    return std::nullopt;
  }
  const int64_t value = std::stoll(found->metadata.at("value"));
  const Checkpoint expected = checkpoint(0, 0, value);
  REQUIRE(found->tensors.size() == 2);
  CHECK(at::equal(found->tensors[0].tensor, expected.tensors[0].tensor));
  CHECK(at::equal(found->tensors[1].tensor, expected.tensors[1].tensor));
  return value;
}

/// A folder in a known state, the save that is disturbed, and what may be the newest afterwards.
struct Scenario {
  const char* name;
  std::vector<Checkpoint> before;
  Checkpoint disturbed;
  int keep = 2;
  bool sealed = false;
  bool leftovers = false;

  std::optional<int64_t> value_before() const {
    if (before.empty()) return std::nullopt;
    return before.back().tensors[1].tensor.item<int64_t>();
  }
  int64_t value_after() const { return disturbed.tensors[1].tensor.item<int64_t>(); }
};

std::vector<Scenario> scenarios() {
  return {
      {.name = "the first", .before = {}, .disturbed = checkpoint(1, 1, 1)},
      {.name = "the next", .before = {checkpoint(1, 1, 1)}, .disturbed = checkpoint(1, 2, 2), .keep = 1},
      {.name = "one of a row",
       .before = {checkpoint(1, 1, 1), checkpoint(1, 2, 2)},
       .disturbed = checkpoint(1, 3, 3)},
      {.name = "the same again",
       .before = {checkpoint(1, 1, 1)},
       .disturbed = checkpoint(1, 1, 2),
       .keep = 1},
      {.name = "an older one",
       .before = {checkpoint(1, 7, 7), checkpoint(1, 8, 8), checkpoint(1, 9, 9)},
       .disturbed = checkpoint(1, 5, 5),
       .keep = 3},
      {.name = "sealed", .before = {checkpoint(1, 1, 1)}, .disturbed = checkpoint(1, 2, 2), .sealed = true},
      {.name = "after a kill",
       .before = {checkpoint(1, 1, 1)},
       .disturbed = checkpoint(1, 2, 2),
       .leftovers = true},
  };
}

/// A scenario's folder, ready to be disturbed.
class Stage {
 public:
  explicit Stage(const Scenario& scenario) : temporary_(quick_directory()) {
    options_ = {.directory = temporary_.path() / "run" / "checkpoints", .keep = scenario.keep};
    if (scenario.sealed) options_.seal_key = generate_seal_key();
    for (const Checkpoint& point : scenario.before) {
      REQUIRE(CheckpointStore(options_).save(point).has_value());
    }
    if (scenario.leftovers) {
      std::ofstream(options_.directory / "round-00001-step-00002.safetensors") << "no manifest yet";
      std::ofstream(options_.directory / ".round-00001-step-00002.json.tmp") << "{";
    }
  }

  const fs::path& root() const { return temporary_.path(); }
  const CheckpointStoreOptions& options() const { return options_; }
  Result<void> save(const Checkpoint& point) const { return CheckpointStore(options_).save(point); }

  /// The newest is one of the two; the next save works and leaves exactly what it should.
  void check_survived(const Scenario& scenario) const {
    const auto value = newest_value(options_);
    const bool before_or_after = value == scenario.value_before() || value == scenario.value_after();
    CHECK(before_or_after);
    CheckpointStoreOptions last = options_;
    last.keep = 1;
    REQUIRE(CheckpointStore(last).save(checkpoint(2, 0, 100)).has_value());
    CHECK(newest_value(last) == 100);
    CHECK(names_in(options_.directory) ==
          Names{"round-00002-step-00000.json",
                scenario.sealed ? "round-00002-step-00000.sealed" : "round-00002-step-00000.safetensors"});
  }

 private:
  TemporaryDirectory temporary_;
  CheckpointStoreOptions options_;
};

bool has_temporaries(const fs::path& directory) {
  if (!fs::exists(directory)) return false;
  for (const std::string& name : names_in(directory)) {
    if (name.find(".tmp") != std::string::npos) return true;
  }
  return false;
}

/// Data files that no manifest has: twice the manifests is what there should be.
bool has_orphans(const fs::path& directory) {
  if (!fs::exists(directory)) return false;
  int manifests = 0;
  int others = 0;
  for (const std::string& name : names_in(directory)) ++(name.ends_with(".json") ? manifests : others);
  return manifests != others;
}

const char* expected_hint(int reason) {
  switch (reason) {
    case EROFS:
      return "; choose a directory this user may write to";
    case EIO:
      return "; the disk is failing: look at the kernel's log and choose another --run-dir";
    default:
      return "; free space there or choose another --run-dir";
  }
}

/// "cannot DO PATH below `directory`: REASON; what to do".
void check_error(const Error& error, const fs::path& directory, int reason) {
  CHECK((error.code == ErrorCode::kIo));
  CAPTURE(error.message);
  CHECK(error.message.find(directory.string()) != std::string::npos);
  CHECK(error.message.ends_with(std::string(": ") + std::strerror(reason) + expected_hint(reason)));
}

constexpr int kReasons[] = {ENOSPC, EIO, EDQUOT, EROFS};

/// Above the calls that any save makes.
constexpr int kMostCalls = 100;

}  // namespace

TEST_SUITE("core/storage/storage_faults") {
  TEST_CASE("a process killed at any call of a save leaves a whole checkpoint, and the next save cleans up") {
    int kills = 0;
    for (const Scenario& scenario : scenarios()) {
      CAPTURE(std::string(scenario.name));
      for (const Fault fault : {Fault::kDieBefore, Fault::kDieAfter, Fault::kDieHalfWay}) {
        CAPTURE(static_cast<int>(fault));
        bool died = true;
        for (int at = 0; died; ++at) {
          CAPTURE(at);
          REQUIRE(at < kMostCalls);
          const Stage stage(scenario);
          died = dies_at(at, fault, [&] {
            if (!stage.save(scenario.disturbed)) ::_exit(1);
          });
          if (!died) CHECK(newest_value(stage.options()) == scenario.value_after());
          stage.check_survived(scenario);
          kills += died ? 1 : 0;
        }
      }
    }
    CHECK(kills > 250);
  }

  TEST_CASE("any call of a save that fails gives an error that names the path, and no litter") {
    int failures = 0;
    for (const Scenario& scenario : scenarios()) {
      CAPTURE(std::string(scenario.name));
      for (const int reason : kReasons) {
        CAPTURE(std::string(std::strerror(reason)));
        for (const Fault fault : {Fault::kFail, Fault::kFailFromHere}) {
          bool reached = true;
          for (int at = 0; reached; ++at) {
            CAPTURE(at);
            REQUIRE(at < kMostCalls);
            const Stage stage(scenario);
            const auto saved = [&] {
              const FaultyCalls faulty(at, fault, reason);
              const auto result = stage.save(scenario.disturbed);
              reached = FaultyCalls::reached();
              return result;
            }();
            CAPTURE(FaultyCalls::met());
            if (!saved) check_error(saved.error(), stage.root(), reason);
            if (!saved) ++failures;
            if (saved) CHECK(newest_value(stage.options()) == scenario.value_after());
            // What cannot be removed stays; the next save removes it.
            if (fault == Fault::kFail && FaultyCalls::met() != "unlink") {
              CHECK_FALSE(has_temporaries(stage.options().directory));
              // After the rename the old data stays until a sync of the directory tells that it is not
              // needed.
              if (saved || newest_value(stage.options()) == scenario.value_before()) {
                CHECK_FALSE(has_orphans(stage.options().directory));
              }
            }
            stage.check_survived(scenario);
          }
        }
      }
    }
    CHECK(failures > 500);
  }

  TEST_CASE("a save goes on after any interruption") {
    const Scenario scenario = scenarios()[1];
    bool reached = true;
    for (int at = 0; reached; ++at) {
      CAPTURE(at);
      const Stage stage(scenario);
      const FaultyCalls faulty(at, Fault::kInterruptOnce);
      CHECK(stage.save(scenario.disturbed).has_value());
      reached = FaultyCalls::reached();
      CHECK(newest_value(stage.options()) == scenario.value_after());
    }
  }

  TEST_CASE("writes that take seven bytes at a time make the same files") {
    const Stage stage(scenarios()[0]);
    storage_syscalls().write = [](int file, const void* bytes, size_t count) {
      return kKernelSyscalls.write(file, bytes, std::min<size_t>(count, 7));
    };
    const auto saved = stage.save(checkpoint(1, 1, 1));
    storage_syscalls() = kKernelSyscalls;
    REQUIRE(saved.has_value());
    CHECK(newest_value(stage.options()) == 1);
  }

  TEST_CASE("a file system that writes nothing without saying why counts as full") {
    const Stage stage(scenarios()[1]);
    storage_syscalls().write = [](int, const void*, size_t) -> ssize_t { return 0; };
    const auto saved = stage.save(checkpoint(1, 2, 2));
    storage_syscalls() = kKernelSyscalls;
    REQUIRE_FALSE(saved.has_value());
    check_error(saved.error(), stage.options().directory, ENOSPC);
    CHECK(newest_value(stage.options()) == 1);
  }

  TEST_CASE("a file written atomically is the old or the new one after any kill and any failure") {
    const std::string old_text(10'000, 'o');
    const std::string new_text(20'000, 'n');
    for (const Fault fault : {Fault::kDieBefore, Fault::kDieAfter, Fault::kDieHalfWay, Fault::kFail}) {
      CAPTURE(static_cast<int>(fault));
      bool met = true;
      for (int at = 0; met; ++at) {
        CAPTURE(at);
        REQUIRE(at < kMostCalls);
        const TemporaryDirectory directory(quick_directory());
        const fs::path path = directory.path() / "summary.json";
        REQUIRE(write_file_atomically(path, {old_text}).has_value());
        if (fault == Fault::kFail) {
          const FaultyCalls faulty(at, fault, ENOSPC);
          const auto written = write_file_atomically(path, {new_text});
          met = FaultyCalls::reached();
          // Closing comes after the contents are on the disk.
          CHECK(written.has_value() == (!met || FaultyCalls::met() == "close"));
          if (!written) check_error(written.error(), directory.path(), ENOSPC);
          CHECK(names_in(directory.path()) == Names{"summary.json"});
        } else {
          met = dies_at(at, fault, [&] {
            if (!write_file_atomically(path, {new_text})) ::_exit(1);
          });
        }
        const std::string found = read_file(path).value();
        const bool whole = found == old_text || found == new_text;
        CHECK(whole);
        REQUIRE(write_file_atomically(path, {"next"}).has_value());
        CHECK(read_file(path).value() == "next");
        CHECK(names_in(directory.path()) == Names{"summary.json"});
      }
    }
  }

  TEST_CASE("a seal key is saved whole or not at all") {
    for (const Fault fault : {Fault::kDieBefore, Fault::kDieAfter, Fault::kDieHalfWay}) {
      bool died = true;
      for (int at = 0; died; ++at) {
        CAPTURE(at);
        const TemporaryDirectory directory(quick_directory());
        const fs::path path = directory.path() / "seal.key";
        const SealKey key = generate_seal_key();
        died = dies_at(at, fault, [&] {
          if (!save_seal_key(path, key)) ::_exit(1);
        });
        const auto found = load_seal_key(path);
        if (found) CHECK(found->bytes() == key.bytes());
        if (!found) REQUIRE(save_seal_key(path, key).has_value());
        CHECK(names_in(directory.path()) == Names{"seal.key"});
      }
    }
  }

  TEST_CASE(
      "a process killed at every system call of a save, by the kernel's count, leaves a whole checkpoint") {
    const Scenario scenario = scenarios()[1];
    bool ended = false;
    int at = 0;
    for (; !ended; ++at) {
      CAPTURE(at);
      REQUIRE(at < 1000);
      const Stage stage(scenario);
      const pid_t child = ::fork();
      REQUIRE(child >= 0);
      if (child == 0) {
        if (::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) ::_exit(77);
        ::raise(SIGSTOP);
        ::_exit(stage.save(scenario.disturbed) ? 0 : 1);
      }
      // Each call stops the child twice: where it enters and where it leaves the kernel.
      int status = 0;
      REQUIRE(::waitpid(child, &status, 0) == child);
      if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
        MESSAGE("skipped: this machine does not let a process trace its child");
        return;
      }
      REQUIRE(WIFSTOPPED(status));
      for (int stop = 0; stop <= at && !ended; ++stop) {
        REQUIRE(::ptrace(PTRACE_SYSCALL, child, nullptr, nullptr) == 0);
        REQUIRE(::waitpid(child, &status, 0) == child);
        ended = WIFEXITED(status);
      }
      if (ended) {
        CHECK(WEXITSTATUS(status) == 0);
      } else {
        ::kill(child, SIGKILL);
        REQUIRE(::waitpid(child, &status, 0) == child);
      }
      stage.check_survived(scenario);
    }
    CHECK(at > 40);
  }

  TEST_CASE("a really full disk and one that became read-only leave the checkpoint whole") {
    const TemporaryDirectory directory;
    const fs::path disk = directory.path() / "disk";
    fs::create_directory(disk);
    if (::mount("tandem-test", disk.c_str(), "tmpfs", 0, "size=1m") != 0) {
      MESSAGE("skipped: this user may not mount a small tmpfs");
      return;
    }
    const CheckpointStoreOptions options{.directory = disk / "checkpoints", .keep = 1};
    CheckpointStore store(options);
    const auto first = store.save(checkpoint(1, 1, 1));
    const auto too_large = store.save(checkpoint(1, 2, 2, 200'000));
    const Names after_full = names_in(options.directory);
    const auto value = newest_value(options);
    const auto next = store.save(checkpoint(1, 2, 2));
    const bool remounted = ::mount("", disk.c_str(), "", MS_REMOUNT | MS_RDONLY, "") == 0;
    const auto read_only = store.save(checkpoint(1, 3, 3));
    const auto value_read_only = newest_value(options);
    const auto summary = write_file_atomically(disk / "summary.json", {"{}"});
    ::umount(disk.c_str());
    CHECK(first.has_value());
    REQUIRE_FALSE(too_large.has_value());
    check_error(too_large.error(), options.directory, ENOSPC);
    CHECK(after_full == Names{"round-00001-step-00001.json", "round-00001-step-00001.safetensors"});
    CHECK(value == 1);
    CHECK(next.has_value());
    if (!remounted) return;
    REQUIRE_FALSE(read_only.has_value());
    check_error(read_only.error(), options.directory, EROFS);
    CHECK(value_read_only == 2);
    REQUIRE_FALSE(summary.has_value());
    check_error(summary.error(), disk, EROFS);
  }

  TEST_CASE("a directory that was removed meanwhile is made again") {
    const TemporaryDirectory directory;
    const CheckpointStoreOptions options{.directory = directory.path() / "run" / "checkpoints"};
    CheckpointStore store(options);
    REQUIRE(store.save(checkpoint(1, 1, 1)).has_value());
    fs::remove_all(directory.path() / "run");
    REQUIRE(store.save(checkpoint(1, 2, 2)).has_value());
    CHECK(newest_value(options) == 2);
  }

  TEST_CASE("a path that is too long is named, with what to do") {
    const TemporaryDirectory directory;
    const fs::path path = directory.path() / std::string(300, 'x');
    const auto saved = CheckpointStore(path).save(checkpoint(1, 1, 1));
    REQUIRE_FALSE(saved.has_value());
    CHECK(saved.error().message ==
          "cannot create directory " + path.string() + ": File name too long; choose a shorter path");
    const auto written = write_file_atomically(directory.path() / std::string(252, 'x'), {"x"});
    REQUIRE_FALSE(written.has_value());
    CHECK(written.error().message.ends_with(": File name too long; choose a shorter path"));
    CHECK(names_in(directory.path()).empty());
  }
}
