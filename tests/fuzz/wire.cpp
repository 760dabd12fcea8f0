// Messages: [mode] [type, if honest] [n] [n x 16-bit size] first frame, n tensor frames (cut from the end).
// An honest message gets a right header in front, so that mutations reach the body and its tensors.
#include <algorithm>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "fuzz/support.h"
#include "tandem/core/wire/message_codec.h"

using namespace tandem;
using namespace tandem::wire;
using tandem::fuzz::Input;
using tandem::fuzz::require;

namespace {

constexpr uint8_t kHonest = 1;  // header written here
constexpr uint8_t kOdd = 2;     // frames at odd addresses, as small CURVE frames have them
constexpr size_t kMostTensors = 16;

/// Exactly these bytes and not one more, so that a sanitizer sees every step beyond.
Frame exact_frame(std::string_view bytes, bool odd) {
  const size_t shift = odd ? 1 : 0;
  const std::shared_ptr<char[]> block(new char[bytes.size() + shift]);
  std::copy(bytes.begin(), bytes.end(), block.get() + shift);
  return Frame::borrow(block, block.get() + shift, bytes.size());
}

std::string bytes_of(const Frame& frame) {
  return {reinterpret_cast<const char*>(frame.data()), frame.size()};
}

std::string with_header(MessageType type, std::string_view body, const Frames& tensors) {
  Header header;
  header.type = type;
  header.tensor_frames = static_cast<uint32_t>(tensors.size());
  header.body_bytes = body.size();
  header.tensor_bytes = total_bytes(tensors);
  std::string first(kHeaderBytes, '\0');
  first += body;
  const std::span<std::byte, kHeaderBytes> out(reinterpret_cast<std::byte*>(first.data()), kHeaderBytes);
  write_header(header, out);
  Frames frames{Frame::borrow(nullptr, first.data(), first.size())};
  frames.insert(frames.end(), tensors.begin(), tensors.end());
  header.checksum = message_checksum(frames);
  write_header(header, out);
  return first;
}

Frames read_frames(Input& input, bool& honest) {
  const uint8_t mode = input.byte();
  honest = (mode & kHonest) != 0;
  const auto type = static_cast<MessageType>(honest ? input.byte() % 18 + 1 : 0);
  std::vector<size_t> sizes(input.byte() % (kMostTensors + 1));
  for (size_t& size : sizes) size = input.number();
  Frames tensors;
  for (const size_t size : sizes) {
    tensors.push_back(exact_frame(input.take_back(size), (mode & kOdd) != 0));
  }
  const std::string first = honest ? with_header(type, input.rest(), tensors) : std::string(input.rest());
  Frames frames{exact_frame(first, false)};
  frames.insert(frames.end(), tensors.begin(), tensors.end());
  return frames;
}

bool same_bytes(const Frames& left, const Frames& right) {
  return std::equal(left.begin(), left.end(), right.begin(), right.end(),
                    [](const Frame& a, const Frame& b) { return bytes_of(a) == bytes_of(b); });
}

/// "Whatever it accepts, encode writes back to the same bytes": but for a newer minor version.
void check_written_back(const Frames& frames, const Message& message, bool honest) {
  const Frames again = encode(message);
  if (same_bytes(frames, again)) return;
  const auto reread = decode(again, {});
  require(reread.has_value(), "what encode writes is read");
  require(same_bytes(encode(*reread), again), "what encode writes is written back to the same bytes");
  const bool other_minor = bytes_of(frames[0])[7] != bytes_of(again[0])[7];
  require(other_minor, "what decode accepts is written back to the same bytes");
  require(!honest || !other_minor, "an honest header has the present minor version");
  require(bytes_of(frames[0]).substr(kHeaderBytes) == bytes_of(again[0]).substr(kHeaderBytes),
          "the body is written back to the same bytes");
  for (size_t i = 1; i < frames.size(); ++i) {
    require(bytes_of(frames[i]) == bytes_of(again.at(i)), "tensors are written back to the same bytes");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  bool honest = false;
  const Frames frames = read_frames(input, honest);
  const auto message = decode(frames, {});
  if (message) {
    check_written_back(frames, *message, honest);
  } else {
    require(!message.error().message.empty(), "an error has a text");
  }
  return 0;
}
