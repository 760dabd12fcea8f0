#pragma once

#include <cstddef>
#include <cstdint>

#include "tandem/core/base/result.h"
#include "tandem/core/wire/frame.h"
#include "tandem/core/wire/header.h"
#include "tandem/core/wire/messages.h"

namespace tandem::wire {

/// Upper bounds that are checked before anything is allocated for a message.
struct Limits {
  /// Cereal body of one message.
  uint64_t max_body_bytes = 4u << 20;
  /// Frames behind the first one.
  uint32_t max_tensor_frames = 4096;
  /// One tensor frame.
  uint64_t max_tensor_bytes = 1ull << 30;
  /// All tensor frames of one message.
  uint64_t max_message_bytes = 2ull << 30;
};

/// Positions that a Hello may name.
inline constexpr size_t kMaxPositions = 16;
inline constexpr size_t kMaxHeldRequests = 64;

/// Longest text of each sort, in bytes, and most dimensions of a shape, in either direction.
inline constexpr size_t kMaxNameBytes = 256;
inline constexpr size_t kMaxTextBytes = 4096;

/// A message as frames: header and cereal body in the first, then one frame a tensor that borrows the
/// tensor's memory (a tensor that is not dense in its memory format is copied first). Tensors must be
/// dense (not sparse) and on the CPU, and nobody may write them until the transport has sent them.
/// Reasons and texts for people are cut at kMaxTextBytes. Throws std::invalid_argument naming the field
/// for what `decode` would refuse: a longer name or specification, a number that is not finite in a field
/// not documented as NaN-able, an enum value outside its enumeration, an undefined tensor.
Frames encode(const Message& message);

/// The reverse. Checks, in this order: header, sizes against `limits` and the frames present, checksum
/// over every frame, body, each tensor's dtype x shape against its frame. Tensors borrow their frame
/// where its address suits their dtype and are copied where not; either way nobody may write into a
/// decoded tensor in place. Never throws, never allocates for a length it has not seen the bytes of.
/// Whatever it accepts, `encode` writes back to the same bytes (but for a newer minor version).
/// What the values mean for the run (shapes expected, labels in range, finite tensors) is the session's to
/// check. Errors: kCorrupt, kTooLarge, kUnsupported (protocol version), kProtocol, kShapeMismatch,
/// kNonFinite.
Result<Message> decode(const Frames& frames, const Limits& limits);

/// XXH3-64 of the header with its checksum field zero, the body, and every tensor frame in order.
/// The first frame must hold at least a header.
uint64_t message_checksum(const Frames& frames);

}  // namespace tandem::wire
