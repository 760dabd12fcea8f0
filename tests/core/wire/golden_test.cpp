// The promise of the wire format: files written by the first release are read for ever. Until then they are
// what the bytes are. A file is a message's frames, each behind its length as 8 little-endian bytes.

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "core/wire/sample_messages.h"
#include "support/test.h"

using namespace tandem;
using namespace tandem::wire;
namespace fs = std::filesystem;

namespace {

const fs::path kDirectory = "tests/golden";

fs::path path_of(const std::string& name) {
  return kDirectory / (name + ".message");
}

std::vector<std::string> read_frames(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  REQUIRE_MESSAGE(file.good(), "missing golden file " << path.string());
  std::vector<std::string> frames;
  for (unsigned char length[8]; file.read(reinterpret_cast<char*>(length), 8);) {
    uint64_t size = 0;
    for (int i = 7; i >= 0; --i) size = size << 8 | length[i];
    REQUIRE(size < 1 << 20);
    std::string bytes(size, '\0');
    file.read(bytes.data(), static_cast<std::streamsize>(size));
    REQUIRE(file.gcount() == static_cast<std::streamsize>(size));
    frames.push_back(bytes);
  }
  return frames;
}

/// For a new message type or struct version only: run once with TANDEM_WRITE_MISSING_GOLDEN set, look at
/// the bytes, commit the file. An existing file is never written.
void write_if_missing(const SampleMessage& sample) {
  if (std::getenv("TANDEM_WRITE_MISSING_GOLDEN") == nullptr || fs::exists(path_of(sample.name))) return;
  std::ofstream file(path_of(sample.name), std::ios::binary);
  for (const std::string& bytes : to_strings(encode(sample.message))) {
    for (int i = 0; i < 8; ++i) file.put(static_cast<char>(bytes.size() >> (8 * i)));
    file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }
}

}  // namespace

TEST_SUITE("core/wire/golden") {
  TEST_CASE("every message decodes to its values and encodes to the same bytes") {
    for (const SampleMessage& sample : sample_messages()) {
      CAPTURE(sample.name);
      write_if_missing(sample);
      const std::vector<std::string> golden = read_frames(path_of(sample.name));
      const auto decoded = decode(to_frames(golden), {});
      REQUIRE_MESSAGE(decoded.has_value(), decoded.error().message);
      check_same_message(sample.message, *decoded);
      CHECK((to_strings(encode(*decoded)) == golden));
      CHECK((to_strings(encode(sample.message)) == golden));
    }
  }

  TEST_CASE("there is a golden message of every type, and no file that no test reads") {
    std::set<MessageType> types;
    std::set<std::string> names;
    for (const SampleMessage& sample : sample_messages()) {
      types.insert(type_of(sample.message.body));
      names.insert(path_of(sample.name).filename().string());
    }
    CHECK(types.size() == std::variant_size_v<Body>);
    for (const auto& entry : fs::directory_iterator(kDirectory)) {
      CAPTURE(entry.path().string());
      if (entry.path().extension() == ".message") CHECK(names.contains(entry.path().filename().string()));
    }
  }
}
