// safetensors files. An odd first byte: the rest is JSON up to a zero byte and data, and gets a right length
// in front; an even one: the file as it is.
#include <string>

#include "fuzz/support.h"
#include "tandem/core/storage/safetensors.h"

using namespace tandem;
using tandem::fuzz::Input;
using tandem::fuzz::require;

namespace {

std::string with_length(std::string_view header, std::string_view data) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes += static_cast<char>(static_cast<uint64_t>(header.size()) >> (8 * i));
  bytes += header;
  return bytes += data;
}

void check_written_back(const SafetensorsContent& content) {
  const std::string bytes = serialize_safetensors(content);
  const auto again = parse_safetensors(bytes);
  require(again.has_value(), "what is written is read");
  require(serialize_safetensors(*again) == bytes, "what is read is written to the same bytes");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  const bool honest = input.byte() % 2 == 1;
  const std::string_view header = honest ? input.take_until('\0') : std::string_view();
  const std::string bytes = honest ? with_length(header, input.rest()) : std::string(input.rest());
  const auto content = parse_safetensors(bytes);
  if (content) {
    check_written_back(*content);
  } else {
    require(!content.error().message.empty(), "an error has a text");
  }
  return 0;
}
