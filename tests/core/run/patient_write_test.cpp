#include "tandem/core/run/patient_write.h"

#include <string>
#include <vector>

#include "support/test.h"

using namespace tandem;

namespace {

const Error kFull{ErrorCode::kIo, "cannot write model.safetensors: No space left on device"};

bool never() {
  return false;
}

}  // namespace

TEST_SUITE("core/run/patient_write") {
  TEST_CASE("what the disk takes at once is written once, without a word") {
    int tries = 0;
    CHECK(write_patiently([&] { return ++tries, Result<void>(); }, never,
                          [](const std::string&) { CHECK(false); }));
    CHECK(tries == 1);
  }

  TEST_CASE("as soon as there is room the result is written; until then it says what it waits for") {
    int tries = 0;
    std::vector<std::string> lines;
    CHECK(
        write_patiently([&]() -> Result<void> { return ++tries < 3 ? Result<void>(kFull) : Result<void>(); },
                        never, [&](const std::string& line) { lines.push_back(line); }));
    CHECK(tries == 3);
    CHECK(lines == std::vector<std::string>{"waiting for the disk, for 600 s more or until a signal: " +
                                            kFull.message});
  }

  TEST_CASE("a stop and the end of patience give the last error") {
    int tries = 0;
    const auto write = [&]() -> Result<void> { return ++tries, kFull; };
    const auto say = [](const std::string&) {};
    CHECK(write_patiently(
              write, [&] { return tries == 2; }, say)
              .error()
              .message == kFull.message);
    CHECK(tries == 2);
    CHECK(write_patiently(write, never, say, std::chrono::seconds(0)).error().message == kFull.message);
    CHECK(tries == 3);
  }

  TEST_CASE("what no disk space helps against is an error at once") {
    const Error wrong{ErrorCode::kInvalidArgument, "wrong"};
    CHECK(write_patiently([&]() -> Result<void> { return wrong; }, never,
                          [](const std::string&) { CHECK(false); })
              .error()
              .message == "wrong");
  }
}
