#include "tandem/core/wire/message_codec.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include <xxhash.h>

#include "tandem/core/wire/message_body_detail.h"

namespace tandem::wire {
namespace {

uint64_t tensor_bytes(const Frames& frames) {
  return total_bytes(frames) - frames.front().size();
}

std::span<const std::byte> bytes_of(const Frame& frame) {
  return {frame.data(), frame.size()};
}

Error too_large(const std::string& what, uint64_t limit, uint64_t found) {
  return Error{ErrorCode::kTooLarge,
               what + ": expected at most " + std::to_string(limit) + ", found " + std::to_string(found)};
}

Error corrupt(const std::string& what, uint64_t expected, uint64_t found) {
  return Error{ErrorCode::kCorrupt,
               what + ": expected " + std::to_string(expected) + ", found " + std::to_string(found)};
}

std::optional<Error> check_limits(const Header& header, const Frames& frames, const Limits& limits) {
  const uint64_t body_bytes = std::max<uint64_t>(header.body_bytes, frames[0].size() - kHeaderBytes);
  if (body_bytes > limits.max_body_bytes) return too_large("body bytes", limits.max_body_bytes, body_bytes);
  const uint64_t count = std::max<uint64_t>(header.tensor_frames, frames.size() - 1);
  if (count > limits.max_tensor_frames) return too_large("tensor frames", limits.max_tensor_frames, count);
  for (size_t i = 1; i < frames.size(); ++i) {
    if (frames[i].size() > limits.max_tensor_bytes) {
      return too_large("bytes of tensor frame " + std::to_string(i), limits.max_tensor_bytes,
                       frames[i].size());
    }
  }
  const uint64_t all = std::max<uint64_t>(header.tensor_bytes, tensor_bytes(frames));
  if (all > limits.max_message_bytes) return too_large("tensor bytes", limits.max_message_bytes, all);
  return std::nullopt;
}

std::optional<Error> check_presence(const Header& header, const Frames& frames) {
  if (header.body_bytes != frames[0].size() - kHeaderBytes) {
    return corrupt("body bytes in the first frame", header.body_bytes, frames[0].size() - kHeaderBytes);
  }
  if (header.tensor_frames != frames.size() - 1) {
    return corrupt("tensor frames", header.tensor_frames, frames.size() - 1);
  }
  if (header.tensor_bytes != tensor_bytes(frames)) {
    return corrupt("bytes in the tensor frames", header.tensor_bytes, tensor_bytes(frames));
  }
  return std::nullopt;
}

/// XXH3-64 of `first` and of what follows the header in the frames.
uint64_t hash_of(std::span<const std::byte> first, const Frames& frames) {
  struct FreeState {
    void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
  };
  const std::unique_ptr<XXH3_state_t, FreeState> state(XXH3_createState());
  if (!state) throw std::bad_alloc();
  XXH3_64bits_reset(state.get());
  XXH3_64bits_update(state.get(), first.data(), first.size());
  XXH3_64bits_update(state.get(), frames.at(0).data() + kHeaderBytes, frames[0].size() - kHeaderBytes);
  for (size_t i = 1; i < frames.size(); ++i) {
    XXH3_64bits_update(state.get(), frames[i].data(), frames[i].size());
  }
  return XXH3_64bits_digest(state.get());
}

/// Whatever the version: the checksum is of the same kind and in the same place in all of them.
bool has_right_checksum(const Frames& frames) {
  uint64_t claimed = 0;
  for (size_t i = sizeof claimed; i-- > 0;) {
    claimed = claimed << 8 | std::to_integer<uint64_t>(frames[0].data()[kChecksumOffset + i]);
  }
  return message_checksum(frames) == claimed;
}

}  // namespace

uint64_t message_checksum(const Frames& frames) {
  std::byte header[kHeaderBytes];
  std::memcpy(header, frames.at(0).data(), kHeaderBytes);
  std::memset(header + kChecksumOffset, 0, sizeof(uint64_t));
  return hash_of(header, frames);
}

Frames encode(const Message& message) {
  std::string bytes(kHeaderBytes, '\0');
  Frames frames(1);
  detail::write_body(message.body, bytes, frames);
  Header header;
  header.type = type_of(message.body);
  header.tensor_frames = static_cast<uint32_t>(frames.size() - 1);
  header.body_bytes = bytes.size() - kHeaderBytes;
  header.tensor_bytes = total_bytes(frames);  // the first frame is still empty
  header.run_id = message.key.run_id;
  header.incarnation = message.key.incarnation;
  header.round = message.key.round;
  header.step = message.key.step;
  header.micro_batch = message.key.micro_batch;
  const std::span<std::byte, kHeaderBytes> out(reinterpret_cast<std::byte*>(bytes.data()), kHeaderBytes);
  write_header(header, out);
  frames[0] = Frame::borrow(nullptr, bytes.data(), bytes.size());
  header.checksum = message_checksum(frames);
  write_header(header, out);
  frames[0] = Frame::own(std::move(bytes));
  return frames;
}

Result<Message> decode(const Frames& frames, const Limits& limits) {
  if (frames.empty())
    return Error{ErrorCode::kCorrupt, "a message without frames: expected at least 1, found 0"};
  const Result<Header> header = read_header(bytes_of(frames[0]));
  if (!header && header.error().code == ErrorCode::kUnsupported && !has_right_checksum(frames)) {
    return Error{ErrorCode::kCorrupt, header.error().message + ", or the message is damaged"};
  }
  if (!header) return header.error();
  const auto in_message = [&](const Error& error) {
    return Error{error.code, std::string(message_type_name(header->type)) + " message: " + error.message};
  };
  if (auto error = check_limits(*header, frames, limits)) return in_message(*error);
  if (auto error = check_presence(*header, frames)) return in_message(*error);
  if (const uint64_t found = message_checksum(frames); found != header->checksum) {
    return in_message(corrupt("checksum", header->checksum, found));
  }
  auto body = detail::read_body(header->type, bytes_of(frames[0]).subspan(kHeaderBytes),
                                std::span(frames).subspan(1), limits.max_tensor_bytes);
  if (!body) return in_message(body.error());
  return Message{
      .key = {header->run_id, header->incarnation, header->round, header->step, header->micro_batch},
      .body = std::move(*body),
      .payload_hash = hash_of({}, frames)};
}

}  // namespace tandem::wire
