#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "tandem/core/base/result.h"
#include "tandem/core/wire/frame.h"
#include "tandem/core/wire/messages.h"

namespace tandem::wire::detail {

/// Appends the cereal body to `out`, and a frame for each of its tensors to `frames`. Throws as encode().
void write_body(const Body& body, std::string& out, Frames& frames);

/// The reverse: all of `bytes` and all of `tensor_frames`, or an error. Never throws. `type` is one of the
/// enumeration.
Result<Body> read_body(MessageType type, std::span<const std::byte> bytes,
                       std::span<const Frame> tensor_frames, uint64_t max_tensor_bytes);

}  // namespace tandem::wire::detail
