#include "tandem/core/run/address_file.h"

#include <string>

#include "core/run/temporary_folder.h"
#include "support/test.h"

using namespace tandem;

TEST_SUITE("core/run/address_file") {
  TEST_CASE("an address replaces an older one, and nothing else") {
    const TemporaryFolder folder;
    const auto path = folder.path / "endpoint";
    for (const char* before : {"", "tcp://127.0.0.1:5555\n", "127.0.0.1:9100", "tcp://[::1]:80\n"}) {
      CAPTURE(before);
      std::ofstream(path) << before;
      REQUIRE(write_address_file("--endpoint-file", path, "tcp://127.0.0.1:6000"));
      CHECK(content_of(path) == "tcp://127.0.0.1:6000\n");
    }
    for (const char* before :
         {"secret = \"x\"\n", "endpoint = \"tcp://127.0.0.1:5555\"\n", "a\nb:1\n", "12:\n"}) {
      CAPTURE(before);
      std::ofstream(path) << before;
      const auto refused = write_address_file("--endpoint-file", path, "tcp://127.0.0.1:6000");
      REQUIRE_FALSE(refused);
      CHECK(refused.error().code == ErrorCode::kInvalidArgument);
      CHECK(refused.error().message == "--endpoint-file " + path.string() +
                                           ": there is a file that holds no address, and it is not "
                                           "overwritten; choose another name or move "
                                           "it away");
      CHECK(content_of(path) == before);
    }
    std::filesystem::remove(path);
    std::filesystem::create_symlink("nowhere", path);
    CHECK_FALSE(write_address_file("--endpoint-file", path, "tcp://127.0.0.1:6000"));
    CHECK(std::filesystem::is_symlink(path));
  }
}
