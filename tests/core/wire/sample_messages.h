// Fixed messages of every type, shared by the tests of the wire format.
#pragma once

#include <string>
#include <vector>

#include "tandem/core/wire/message_codec.h"

namespace tandem::wire {

struct SampleMessage {
  std::string name;  ///< file name in tests/golden, without extension
  Message message;
};

/// One message of each type, every field with a value of its own, together all dtypes and both formats.
/// The files in tests/golden hold exactly these. They change until the first release, and never after it.
std::vector<SampleMessage> sample_messages();

/// Checks field by field and bit by bit, strides included.
void check_same_message(const Message& expected, const Message& found);

/// Same dtype, shape, strides and bits.
void check_same_tensor(const at::Tensor& expected, const at::Tensor& found);

/// Deep copy with the checksum of the header made right, for tests of the checks behind it.
Frames with_checksum(const Frames& frames);

/// Copies of the frames' bytes, for tests that change them.
std::vector<std::string> to_strings(const Frames& frames);
Frames to_frames(const std::vector<std::string>& strings);

/// A row-major or, for 4 dimensions on request, channels-last tensor with the values 0, 1, 2, ... / 4.
at::Tensor counting(std::vector<int64_t> dims, at::ScalarType dtype = at::kFloat, bool channels_last = false);

}  // namespace tandem::wire
