// Flags of earlier versions are refused with what to write now.
#include <fstream>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/run/temporary_folder.h"
#include "support/test.h"
#include "tandem/core/program/flags.h"

namespace {

/// Returns what a program that no longer has --warmup writes to std::cerr.
std::string answer_to(const std::vector<const char*>& arguments) {
  std::string schedule = "constant";
  uint32_t rounds = 5;
  tandem::Flags flags("tandem-test", "Tests flags.");
  flags.add("schedule", schedule, "how the rate changes").replaces("warmup", "warmup").replaces("end", "to");
  flags.add("rounds", rounds, "how many rounds")
      .replaces("passes", [](const std::string& passes, const std::string&) { return passes + "0"; });
  int32_t number = 0;
  CHECK_THROWS_AS(flags.add("number", number, "").replaces("x", "y"), std::logic_error);
  std::vector<const char*> argv{"tandem-test"};
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  std::ostringstream written;
  std::streambuf* const before = std::cerr.rdbuf(written.rdbuf());
  const auto status = flags.parse(static_cast<int>(argv.size()), argv.data());
  std::cerr.rdbuf(before);
  CHECK(status == tandem::kExitUsage);
  return written.str();
}

std::string expected(const std::string& mistake) {
  return "tandem-test: " + mistake + " (run tandem-test --help)\n";
}

}  // namespace

TEST_SUITE("core/program/removed_flags") {
  TEST_CASE("on the command line the error shows the present flag with the parameter added to its value") {
    CHECK(answer_to({"--warmup", "5"}) ==
          expected("--warmup 5 is now part of --schedule: --schedule constant:warmup=5"));
    for (const auto& [schedule, now] : {std::pair<std::string, std::string>{"cosine", "cosine:warmup="},
                                        {"cosine:to=0", "cosine:to=0,warmup="}}) {
      const std::string refused = " is now part of --schedule: --schedule " + now;
      CHECK(answer_to({"--warmup", "5", "--schedule", schedule.c_str()}) ==
            expected("--warmup 5" + refused + "5"));
      CHECK(answer_to({"--schedule", schedule.c_str(), "--warmup=-5"}) ==
            expected("--warmup -5" + refused + "-5"));
      CHECK(answer_to({"--schedule", schedule.c_str(), "--warmup"}) ==
            expected("--warmup VALUE" + refused + "VALUE"));
    }
    CHECK(answer_to({"--warmups", "5"}) == expected("unknown flag \"--warmups\""));
  }

  TEST_CASE("all that belong to the same flag are shown in one value") {
    CHECK(answer_to({"--warmup", "5", "--passes", "7", "--end=1"}) ==
          expected("--warmup 5 and --end 1 are now part of --schedule: --schedule constant:warmup=5,to=1"));
  }

  TEST_CASE("the present value may be computed from the earlier one") {
    CHECK(answer_to({"--passes", "7"}) == expected("--passes 7 is now part of --rounds: --rounds 70"));
    const TemporaryFolder folder;
    std::ofstream(folder.path / "run.toml") << "passes = 7\n";
    CHECK(answer_to({"--config", (folder.path / "run.toml").c_str()}) ==
          expected("key \"passes\" in " + (folder.path / "run.toml").string() +
                   ":1 is now part of \"rounds\": rounds = 70"));
  }

  TEST_CASE("the value in the file counts for an earlier flag on the command line") {
    const TemporaryFolder folder;
    std::ofstream(folder.path / "run.toml") << "schedule = \"cosine\"\n";
    CHECK(answer_to({"--warmup", "5", "--config", (folder.path / "run.toml").c_str()}) ==
          expected("--warmup 5 is now part of --schedule: --schedule cosine:warmup=5"));
  }

  TEST_CASE("in a file the error shows the present key with the parameter added to its value") {
    const TemporaryFolder folder;
    const auto answer_to_file = [&](const std::string& text) {
      std::ofstream(folder.path / "run.toml") << text;
      return answer_to({"--config", (folder.path / "run.toml").c_str()});
    };
    const std::string key = "key \"warmup\" in " + (folder.path / "run.toml").string();
    CHECK(answer_to_file("rounds = 3\nwarmup = 5\nschedule = \"cosine:to=0\"\n") ==
          expected(key + ":2 is now part of \"schedule\": schedule = \"cosine:to=0,warmup=5\""));
    CHECK(answer_to_file("warmup = 0.5\n") ==
          expected(key + ":1 is now part of \"schedule\": schedule = \"constant:warmup=0.5\""));
    CHECK(answer_to_file("warmup = true\nschedule = 3\n") ==
          expected(key + ":1 is now part of \"schedule\": schedule = \"constant:warmup=VALUE\""));
  }
}
