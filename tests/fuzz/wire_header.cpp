// The fixed header of a message: the bytes as they are.
#include <algorithm>
#include <array>
#include <span>
#include <string>

#include "fuzz/support.h"
#include "tandem/core/wire/header.h"

using namespace tandem;
using namespace tandem::wire;
using tandem::fuzz::require;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data), size);
  const auto header = read_header(bytes);
  if (!header) {
    require(!header.error().message.empty(), "an error has a text");
    return 0;
  }
  std::array<std::byte, kHeaderBytes> again;
  write_header(*header, again);
  require(std::equal(again.begin(), again.end(), bytes.begin()), "a header is written back as it was read");
  return 0;
}
