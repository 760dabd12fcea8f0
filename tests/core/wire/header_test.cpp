#include "tandem/core/wire/header.h"

#include <array>
#include <string>

#include "support/test.h"

using namespace tandem;
using namespace tandem::wire;

namespace {

using Bytes = std::array<std::byte, kHeaderBytes>;

Header sample_header() {
  Header header;
  header.type = MessageType::kActivations;
  header.tensor_frames = 0x04030201;
  header.body_bytes = 0x0807060504030201;
  header.tensor_bytes = 0x1817161514131211;
  header.run_id = 0x2827262524232221;
  header.incarnation = 0x34333231;
  header.round = 0x44434241;
  header.step = 0x54535251;
  header.micro_batch = 0x74737271;
  header.checksum = 0x6867666564636261;
  return header;
}

Bytes bytes_of(const Header& header) {
  Bytes bytes;
  write_header(header, bytes);
  return bytes;
}

std::string error_after(size_t offset, unsigned value, ErrorCode code) {
  Bytes bytes = bytes_of(sample_header());
  bytes[offset] = static_cast<std::byte>(value);
  const auto header = read_header(bytes);
  REQUIRE_FALSE(header.has_value());
  CHECK((header.error().code == code));
  return header.error().message;
}

}  // namespace

TEST_SUITE("core/wire/header") {
  TEST_CASE("the header has the documented bytes at the documented offsets") {
    // Written out from docs/wire_format.md, not from the code.
    const unsigned expected[64] = {
        'T',  'N',  'D',  'M',  64,   0,    1,    0,      // magic, header bytes, major, minor
        5,    0,    0,    0,    0x01, 0x02, 0x03, 0x04,   // type, flags, tensor frames
        0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08,   // body bytes
        0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18,   // tensor bytes
        0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28,   // run id
        0x31, 0x32, 0x33, 0x34, 0x41, 0x42, 0x43, 0x44,   // incarnation, round
        0x51, 0x52, 0x53, 0x54, 0x71, 0x72, 0x73, 0x74,   // step, micro-batch
        0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68};  // checksum
    const Bytes bytes = bytes_of(sample_header());
    for (size_t i = 0; i < kHeaderBytes; ++i) {
      CAPTURE(i);
      CHECK(static_cast<unsigned>(bytes[i]) == expected[i]);
    }
  }

  TEST_CASE("read_header returns what write_header wrote") {
    const Header expected = sample_header();
    const auto found = read_header(bytes_of(expected));
    REQUIRE(found.has_value());
    CHECK(found->protocol_major == 1);
    CHECK(found->protocol_minor == kProtocolMinor);
    CHECK((found->type == MessageType::kActivations));
    CHECK(found->tensor_frames == expected.tensor_frames);
    CHECK(found->body_bytes == expected.body_bytes);
    CHECK(found->tensor_bytes == expected.tensor_bytes);
    CHECK(found->run_id == expected.run_id);
    CHECK(found->incarnation == expected.incarnation);
    CHECK(found->round == expected.round);
    CHECK(found->step == expected.step);
    CHECK(found->micro_batch == expected.micro_batch);
    CHECK(found->checksum == expected.checksum);
  }

  TEST_CASE("read_header refuses every length below 64 bytes and says how many it found") {
    const Bytes bytes = bytes_of(sample_header());
    for (size_t size = 0; size < kHeaderBytes; ++size) {
      const auto header = read_header(std::span(bytes).first(size));
      REQUIRE_FALSE(header.has_value());
      CHECK((header.error().code == ErrorCode::kCorrupt));
      CHECK(header.error().message ==
            "message header: bytes in the first frame: expected at least 64, found " + std::to_string(size));
    }
  }

  TEST_CASE("read_header says what it expected and what it found") {
    CHECK(error_after(0, 'X', ErrorCode::kCorrupt) ==
          "message header: magic number: expected 0x4d444e54, found 0x4d444e58");
    CHECK(error_after(4, 63, ErrorCode::kCorrupt) == "message header: header size: expected 64, found 63");
    CHECK(error_after(5, 1, ErrorCode::kCorrupt) == "message header: header size: expected 64, found 320");
    CHECK(error_after(6, 2, ErrorCode::kUnsupported) ==
          "message header: protocol version: expected 1.x, found 2.0; run the same release on both sides");
    CHECK(error_after(8, 19, ErrorCode::kProtocol) ==
          "message header: message type: expected 1 (Hello) to 18 (Evaluated), found 19");
    CHECK(error_after(8, 0, ErrorCode::kProtocol) ==
          "message header: message type: expected 1 (Hello) to 18 (Evaluated), found 0");
    CHECK(error_after(9, 1, ErrorCode::kProtocol) ==
          "message header: message type: expected 1 (Hello) to 18 (Evaluated), found 261");
    CHECK(error_after(10, 1, ErrorCode::kProtocol) == "message header: flags: expected 0, found 1");
  }

  TEST_CASE("a newer minor version is read") {
    Header header = sample_header();
    header.protocol_minor = 9;
    const auto found = read_header(bytes_of(header));
    REQUIRE(found.has_value());
    CHECK(found->protocol_minor == 9);
  }

  TEST_CASE("message types have names") {
    CHECK(std::string(message_type_name(MessageType::kHello)) == "Hello");
    CHECK(std::string(message_type_name(MessageType::kBeginRound)) == "BeginRound");
    CHECK(std::string(message_type_name(MessageType::kBye)) == "Bye");
    CHECK(std::string(message_type_name(static_cast<MessageType>(0))) == "unknown");
    CHECK(std::string(message_type_name(static_cast<MessageType>(19))) == "unknown");
  }
}
