#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "tandem/core/base/result.h"

namespace tandem::wire {

/// Kinds of message. Written values: never renumber.
enum class MessageType : uint16_t {
  kHello = 1,
  kWelcome = 2,
  kRefuse = 3,
  kBeginRound = 4,
  kActivations = 5,
  kGradients = 6,
  kSkip = 7,
  kEndRound = 8,
  kWeightUpdate = 9,
  kHeartbeat = 10,
  kFinish = 11,
  kBye = 12,
  kReceipt = 13,
  kOutputs = 14,
  kOutputGradients = 15,
  kTrained = 16,
  kEvaluate = 17,
  kEvaluated = 18,
};

/// "Gradients" and so on; "unknown" for a value outside the enumeration.
const char* message_type_name(MessageType type);

inline constexpr uint32_t kMagic = 0x4D444E54;  // "TNDM" in little-endian memory
inline constexpr uint8_t kProtocolMajor = 1;
inline constexpr uint8_t kProtocolMinor = 0;
inline constexpr size_t kHeaderBytes = 64;
/// Where the checksum lies in the header; it counts as zero when the checksum is computed.
inline constexpr size_t kChecksumOffset = 56;

/// The fixed header in front of every message, 64 bytes, little-endian; see docs/wire_format.md.
struct Header {
  uint8_t protocol_major = kProtocolMajor;
  uint8_t protocol_minor = kProtocolMinor;
  MessageType type = MessageType::kHeartbeat;
  uint32_t tensor_frames = 0;  ///< how many frames follow the first
  uint64_t body_bytes = 0;     ///< cereal body behind the header in the first frame
  uint64_t tensor_bytes = 0;   ///< sum over the tensor frames
  uint64_t run_id = 0;         ///< 0 before Welcome
  uint32_t incarnation = 0;    ///< counts the starts of the aggregator in this run, from 1
  uint32_t round = 0;
  uint32_t step = 0;
  uint32_t micro_batch = 0;
  uint64_t checksum = 0;  ///< XXH3-64 of the header with this field zero, the body and every tensor frame
};

/// Writes exactly kHeaderBytes.
void write_header(const Header& header, std::span<std::byte, kHeaderBytes> out);

/// Checks length, magic, header size, major version, type, and that the flags are zero, in
/// this order, and nothing else. kUnsupported for another major version, kProtocol for a type or
/// flag this build does not know, else kCorrupt.
Result<Header> read_header(std::span<const std::byte> first_frame);

}  // namespace tandem::wire
