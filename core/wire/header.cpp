#include "tandem/core/wire/header.h"

#include <algorithm>
#include <string>

namespace tandem::wire {
namespace {

// Offsets of docs/wire_format.md; a field ends where the next begins.
constexpr size_t kMagicOffset = 0;
constexpr size_t kHeaderBytesOffset = 4;
constexpr size_t kMajorOffset = 6;
constexpr size_t kMinorOffset = 7;
constexpr size_t kTypeOffset = 8;
constexpr size_t kFlagsOffset = 10;
constexpr size_t kTensorFramesOffset = 12;
constexpr size_t kBodyBytesOffset = 16;
constexpr size_t kTensorBytesOffset = 24;
constexpr size_t kRunIdOffset = 32;
constexpr size_t kIncarnationOffset = 40;
constexpr size_t kRoundOffset = 44;
constexpr size_t kStepOffset = 48;
constexpr size_t kMicroBatchOffset = 52;
static_assert(kMicroBatchOffset + sizeof(uint32_t) == kChecksumOffset);
static_assert(kChecksumOffset + sizeof(uint64_t) == kHeaderBytes);

template <class T>
void store(std::span<std::byte, kHeaderBytes> out, size_t offset, T value) {
  for (size_t i = 0; i < sizeof(T); ++i) out[offset + i] = static_cast<std::byte>(value >> (8 * i));
}

template <class T>
T fetch(std::span<const std::byte> in, size_t offset) {
  uint64_t value = 0;
  for (size_t i = 0; i < sizeof(T); ++i) value |= static_cast<uint64_t>(in[offset + i]) << (8 * i);
  return static_cast<T>(value);
}

std::string hex(uint32_t value) {
  std::string text = "0x";
  for (int shift = 28; shift >= 0; shift -= 4) text += "0123456789abcdef"[(value >> shift) & 0xf];
  return text;
}

Error expected_found(ErrorCode code, const std::string& what, const std::string& expected,
                     const std::string& found) {
  return Error{code, "message header: " + what + ": expected " + expected + ", found " + found};
}

}  // namespace

const char* message_type_name(MessageType type) {
  switch (type) {
    case MessageType::kHello:
      return "Hello";
    case MessageType::kWelcome:
      return "Welcome";
    case MessageType::kRefuse:
      return "Refuse";
    case MessageType::kBeginRound:
      return "BeginRound";
    case MessageType::kActivations:
      return "Activations";
    case MessageType::kGradients:
      return "Gradients";
    case MessageType::kSkip:
      return "Skip";
    case MessageType::kEndRound:
      return "EndRound";
    case MessageType::kWeightUpdate:
      return "WeightUpdate";
    case MessageType::kHeartbeat:
      return "Heartbeat";
    case MessageType::kFinish:
      return "Finish";
    case MessageType::kBye:
      return "Bye";
    case MessageType::kReceipt:
      return "Receipt";
    case MessageType::kOutputs:
      return "Outputs";
    case MessageType::kOutputGradients:
      return "OutputGradients";
    case MessageType::kTrained:
      return "Trained";
    case MessageType::kEvaluate:
      return "Evaluate";
    case MessageType::kEvaluated:
      return "Evaluated";
  }
  return "unknown";
}

void write_header(const Header& header, std::span<std::byte, kHeaderBytes> out) {
  std::fill(out.begin(), out.end(), std::byte{0});
  store(out, kMagicOffset, kMagic);
  store(out, kHeaderBytesOffset, static_cast<uint16_t>(kHeaderBytes));
  store(out, kMajorOffset, header.protocol_major);
  store(out, kMinorOffset, header.protocol_minor);
  store(out, kTypeOffset, static_cast<uint16_t>(header.type));
  store(out, kTensorFramesOffset, header.tensor_frames);
  store(out, kBodyBytesOffset, header.body_bytes);
  store(out, kTensorBytesOffset, header.tensor_bytes);
  store(out, kRunIdOffset, header.run_id);
  store(out, kIncarnationOffset, header.incarnation);
  store(out, kRoundOffset, header.round);
  store(out, kStepOffset, header.step);
  store(out, kMicroBatchOffset, header.micro_batch);
  store(out, kChecksumOffset, header.checksum);
}

Result<Header> read_header(std::span<const std::byte> first_frame) {
  if (first_frame.size() < kHeaderBytes) {
    return expected_found(ErrorCode::kCorrupt, "bytes in the first frame",
                          "at least " + std::to_string(kHeaderBytes), std::to_string(first_frame.size()));
  }
  if (const auto magic = fetch<uint32_t>(first_frame, kMagicOffset); magic != kMagic) {
    return expected_found(ErrorCode::kCorrupt, "magic number", hex(kMagic), hex(magic));
  }
  if (const auto size = fetch<uint16_t>(first_frame, kHeaderBytesOffset); size != kHeaderBytes) {
    return expected_found(ErrorCode::kCorrupt, "header size", std::to_string(kHeaderBytes),
                          std::to_string(size));
  }
  Header header;
  header.protocol_major = fetch<uint8_t>(first_frame, kMajorOffset);
  header.protocol_minor = fetch<uint8_t>(first_frame, kMinorOffset);
  if (header.protocol_major != kProtocolMajor) {
    return expected_found(ErrorCode::kUnsupported, "protocol version", std::to_string(kProtocolMajor) + ".x",
                          std::to_string(header.protocol_major) + "." +
                              std::to_string(header.protocol_minor) + "; run the same release on both sides");
  }
  header.type = static_cast<MessageType>(fetch<uint16_t>(first_frame, kTypeOffset));
  if (message_type_name(header.type) == std::string("unknown")) {
    return expected_found(ErrorCode::kProtocol, "message type", "1 (Hello) to 18 (Evaluated)",
                          std::to_string(static_cast<uint16_t>(header.type)));
  }
  if (const auto flags = fetch<uint16_t>(first_frame, kFlagsOffset); flags != 0) {
    return expected_found(ErrorCode::kProtocol, "flags", "0", std::to_string(flags));
  }
  header.tensor_frames = fetch<uint32_t>(first_frame, kTensorFramesOffset);
  header.body_bytes = fetch<uint64_t>(first_frame, kBodyBytesOffset);
  header.tensor_bytes = fetch<uint64_t>(first_frame, kTensorBytesOffset);
  header.run_id = fetch<uint64_t>(first_frame, kRunIdOffset);
  header.incarnation = fetch<uint32_t>(first_frame, kIncarnationOffset);
  header.round = fetch<uint32_t>(first_frame, kRoundOffset);
  header.step = fetch<uint32_t>(first_frame, kStepOffset);
  header.micro_batch = fetch<uint32_t>(first_frame, kMicroBatchOffset);
  header.checksum = fetch<uint64_t>(first_frame, kChecksumOffset);
  return header;
}

}  // namespace tandem::wire
