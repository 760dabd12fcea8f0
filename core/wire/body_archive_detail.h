#pragma once

#include <cstddef>
#include <cstdint>
#include <istream>
#include <ostream>
#include <span>
#include <streambuf>
#include <string>

// Several threads encode and decode; cereal's table of class versions is shared between them.
#define CEREAL_THREAD_SAFE 1
#include <cereal/archives/portable_binary.hpp>
#include <cereal/cereal.hpp>

#include "tandem/core/base/result.h"
#include "tandem/core/wire/frame.h"

namespace tandem::wire::detail {

using Writer = cereal::PortableBinaryOutputArchive;
using Reader = cereal::PortableBinaryInputArchive;

/// Carries an Error through cereal's calls, from the field that is wrong to decode().
struct BodyError : cereal::Exception {
  BodyError(ErrorCode error_code, const std::string& text) : cereal::Exception(text), code(error_code) {}
  ErrorCode code;
};

/// Appends what cereal writes to a string.
class AppendBuffer : public std::streambuf {
 public:
  explicit AppendBuffer(std::string& out) : out_(out) {}

 protected:
  std::streamsize xsputn(const char* data, std::streamsize size) override {
    out_.append(data, static_cast<size_t>(size));
    return size;
  }
  int_type overflow(int_type value) override {
    if (value != traits_type::eof()) out_.push_back(traits_type::to_char_type(value));
    return value;
  }

 private:
  std::string& out_;
};

/// Lets cereal read bytes where they lie.
class ViewBuffer : public std::streambuf {
 public:
  explicit ViewBuffer(std::span<const std::byte> bytes) {
    // streambuf has no read-only interface; the get area is never written.
    auto* begin = const_cast<char*>(reinterpret_cast<const char*>(bytes.data()));
    setg(begin, begin, begin + bytes.size());
  }
  uint64_t remaining() const { return static_cast<uint64_t>(egptr() - gptr()); }

 protected:
  std::streamsize xsgetn(char* out, std::streamsize size) override {
    if (static_cast<uint64_t>(size) > remaining()) {
      throw BodyError(ErrorCode::kCorrupt, "bytes left in the body: expected at least " +
                                               std::to_string(size) + ", found " +
                                               std::to_string(remaining()));
    }
    return std::streambuf::xsgetn(out, size);
  }
};

/// What `save` functions add to besides the body.
struct WriteContext {
  Frames& frames;
};

/// What `load` functions check against besides the body.
struct ReadContext {
  const ViewBuffer& body;
  std::span<const Frame> tensor_frames;
  size_t next_frame = 0;
  uint64_t max_tensor_bytes = 0;
};

/// The archives of a body, with their context for the functions that cereal calls.
class WriteArchive : public Writer {
 public:
  WriteArchive(WriteContext& context, std::ostream& stream)
      : Writer(stream, Options::LittleEndian()), context_(context) {}
  static WriteContext& context_of(Writer& archive) { return static_cast<WriteArchive&>(archive).context_; }

 private:
  WriteContext& context_;
};

class ReadArchive : public Reader {
 public:
  ReadArchive(ReadContext& context, std::istream& stream) : Reader(stream), context_(context) {}
  static ReadContext& context_of(Reader& archive) { return static_cast<ReadArchive&>(archive).context_; }

 private:
  ReadContext& context_;
};

}  // namespace tandem::wire::detail
