#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <string>
#include <vector>

#include "core/storage/storage_support.h"
#include "support/test.h"
#include "tandem/core/program/flags.h"
#include "tandem/core/storage/checkpoint.h"
#include "tandem/core/storage/safetensors.h"
#include "tandem/core/storage/seal.h"
#include "tandem/tools/commands.h"

using namespace tandem;
namespace fs = std::filesystem;

namespace {

struct Outcome {
  int status;
  std::string errors;
};

/// In a process of its own, as a command is made to run.
Outcome run(int (*command)(int, const char* const*), const std::vector<std::string>& arguments) {
  std::vector<const char*> pointers = {"command"};
  for (const std::string& argument : arguments) pointers.push_back(argument.c_str());
  int errors[2];
  REQUIRE(::pipe(errors) == 0);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    ::dup2(errors[1], STDERR_FILENO);
    ::_exit(command(static_cast<int>(pointers.size()), pointers.data()));
  }
  ::close(errors[1]);
  Outcome outcome{};
  std::array<char, 4096> part;
  for (ssize_t count; (count = ::read(errors[0], part.data(), part.size())) > 0;) {
    outcome.errors.append(part.data(), static_cast<size_t>(count));
  }
  ::close(errors[0]);
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  outcome.status = WEXITSTATUS(status);
  return outcome;
}

void check_fails(const Outcome& outcome, int status, const std::string& text) {
  CHECK(outcome.status == status);
  CAPTURE(outcome.errors);
  CHECK(outcome.errors.find(text) != std::string::npos);
}

}  // namespace

TEST_SUITE("tools/seal_commands") {
  TEST_CASE(
      "a checkpoint sealed with a key that seal-key made is read again by unseal, and by no other key") {
    const TemporaryDirectory directory;
    const auto path = [&](const char* name) { return (directory.path() / name).string(); };
    REQUIRE(run(tools::seal_key_command, {"--out", path("seal.key")}).status == kExitDone);
    REQUIRE(run(tools::seal_key_command, {"--out", path("other.key")}).status == kExitDone);
    check_fails(run(tools::seal_key_command, {"--out", path("seal.key")}), kExitUsage,
                path("seal.key") + ": there is a file already");

    Checkpoint checkpoint{.position = {3, 4}, .metadata = {{"seed", "1"}}};
    checkpoint.tensors = {{"0.weight", at::arange(12, at::kFloat)}};
    CheckpointStore store(CheckpointStoreOptions{.directory = directory.path() / "checkpoints",
                                                 .seal_key = load_seal_key(path("seal.key")).value(),
                                                 .owner = "aggregator"});
    REQUIRE(store.save(checkpoint).has_value());
    const std::string sealed = path("checkpoints/round-00003-step-00004.sealed");

    check_fails(run(tools::unseal_command, {"--seal-key", path("other.key"), sealed, path("out")}),
                kExitUsage, sealed + ": sealed with another key");
    check_fails(run(tools::unseal_command, {sealed, path("out")}), kExitUsage,
                "--seal-key is missing: give the key file that " + sealed + " was sealed with");
    check_fails(run(tools::unseal_command, {"--seal-key", path("seal.key"), path("seal.key"), path("out")}),
                kExitFailed, path("seal.key") + ": sealed file: expected it to begin with TNDMSEAL");
    CHECK_FALSE(fs::exists(path("out")));
    REQUIRE(run(tools::unseal_command, {"--seal-key", path("seal.key"), sealed, path("out")}).status ==
            kExitDone);
    const auto content = load_safetensors(path("out"));
    REQUIRE(content.has_value());
    CHECK(content->metadata.at("seed") == "1");
    CHECK(at::equal(content->tensors.at(0).tensor, checkpoint.tensors[0].tensor));
    struct stat status {};
    REQUIRE(::stat(path("out").c_str(), &status) == 0);
    CHECK((status.st_mode & 07777) == 0600);
  }
}
