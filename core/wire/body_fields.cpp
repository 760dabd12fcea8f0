#include "tandem/core/wire/body_fields_detail.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "tandem/core/wire/message_codec.h"
#include "tandem/core/wire/tensor_codec.h"

namespace tandem::wire::detail {

template <>
struct FieldList<TensorDescriptor> {
  static constexpr const char* kName = "TensorDescriptor";
  static void visit(auto& fields, auto& descriptor) {
    // decode_tensor refuses the values that the enumerations lack.
    fields.numbers(descriptor.dtype, descriptor.codec, descriptor.format);
    fields.shape("dims", descriptor.dims);
    fields.numbers(descriptor.bytes);
  }
};

void refuse(ErrorCode code, const std::string& field, const std::string& expected, const std::string& found) {
  throw BodyError(code, field + ": expected " + expected + ", found " + found);
}

void require_version(const char* name, uint32_t version) {
  if (version == 1) return;
  refuse(ErrorCode::kProtocol, std::string("version of ") + name, "1", std::to_string(version));
}

// Numbers.

void save_finite(Writer& archive, double value, const std::string& field) {
  if (!std::isfinite(value)) {
    throw std::invalid_argument(field + " must be finite, got " + std::to_string(value));
  }
  archive(value);
}

void load_finite(Reader& archive, double& value, const std::string& field) {
  archive(value);
  if (!std::isfinite(value)) {
    refuse(ErrorCode::kNonFinite, field, "a finite number", std::to_string(value));
  }
}

void load_bool(Reader& archive, bool& value, const std::string& field) {
  uint8_t raw = 0;
  archive(raw);
  if (raw > 1) refuse(ErrorCode::kCorrupt, field, "0 or 1", std::to_string(raw));
  value = raw == 1;
}

// Everything with a length.

uint64_t load_count(Reader& archive, uint64_t element_bytes, uint64_t most, const std::string& field) {
  uint64_t count = 0;
  archive(count);
  if (count > most) {
    refuse(ErrorCode::kTooLarge, "length of " + field, "at most " + std::to_string(most),
           std::to_string(count));
  }
  const uint64_t present = ReadArchive::context_of(archive).body.remaining() / element_bytes;
  if (count > present) {
    refuse(ErrorCode::kCorrupt, "length of " + field,
           "at most " + std::to_string(present) + " in the bytes that are left", std::to_string(count));
  }
  return count;
}

void save_length(Writer& archive, uint64_t length, uint64_t most, const std::string& field) {
  if (length > most) {
    throw std::invalid_argument(field + " has at most " + std::to_string(most) + ", got " +
                                std::to_string(length));
  }
  archive(length);
}

void save_shape(Writer& archive, const std::vector<int64_t>& shape, const std::string& field) {
  if (shape.size() > kMaxDims) {
    throw std::invalid_argument(field + " has at most " + std::to_string(kMaxDims) + " dimensions, got " +
                                std::to_string(shape.size()));
  }
  save_numbers(archive, shape);
}

void load_shape(Reader& archive, std::vector<int64_t>& shape, const std::string& field) {
  load_numbers(archive, shape, kMaxDims, field);
}

static void save_bytes(Writer& archive, const char* data, size_t size) {
  archive(static_cast<uint64_t>(size));
  archive(cereal::binary_data(data, size));
}

void save_string(Writer& archive, const std::string& value, size_t most, const std::string& field) {
  if (value.size() > most) {
    throw std::invalid_argument(field + " has at most " + std::to_string(most) + " bytes, got " +
                                std::to_string(value.size()));
  }
  save_bytes(archive, value.data(), value.size());
}

void save_prose(Writer& archive, const std::string& value) {
  size_t size = std::min(value.size(), kMaxTextBytes);
  const auto inside_character = [&](size_t at) {
    return at < value.size() && (static_cast<unsigned char>(value[at]) & 0xC0) == 0x80;
  };
  for (int i = 0; i < 3 && size > 0 && inside_character(size); ++i) --size;
  save_bytes(archive, value.data(), size);
}

void load_prose(Reader& archive, std::string& value, const std::string& field) {
  load_string(archive, value, kMaxTextBytes, field);
}

void load_string(Reader& archive, std::string& value, size_t most, const std::string& field) {
  value.resize(load_count(archive, 1, most, field));
  archive(cereal::binary_data(value.data(), value.size()));
}

// Tensors.

void save_tensor(Writer& archive, const at::Tensor& tensor, const std::string& field) {
  try {
    EncodedTensor encoded = encode_tensor(tensor);
    archive(encoded.descriptor);
    WriteArchive::context_of(archive).frames.push_back(std::move(encoded.frame));
  } catch (const std::invalid_argument& error) {
    throw std::invalid_argument(field + ": " + error.what());
  }
}

void load_tensor(Reader& archive, at::Tensor& tensor, const std::string& field) {
  auto& context = ReadArchive::context_of(archive);
  TensorDescriptor descriptor;
  archive(descriptor);
  if (context.next_frame == context.tensor_frames.size()) {
    refuse(ErrorCode::kCorrupt, field, "a frame for it",
           "only " + std::to_string(context.tensor_frames.size()) + " tensor frames");
  }
  const Frame& frame = context.tensor_frames[context.next_frame++];
  Result<at::Tensor> decoded = decode_tensor(descriptor, frame, context.max_tensor_bytes);
  if (!decoded) throw BodyError(decoded.error().code, field + ": " + decoded.error().message);
  tensor = std::move(decoded).value();
}

void save_tensors(Writer& archive, const NamedTensors& tensors, const std::string& field) {
  archive(static_cast<uint64_t>(tensors.size()));
  for (const auto& [name, tensor] : tensors) {
    save_string(archive, name, kMaxNameBytes, "name of a tensor of " + field);
    save_tensor(archive, tensor, field + " tensor \"" + name + "\"");
  }
}

void load_tensors(Reader& archive, NamedTensors& tensors, const std::string& field) {
  // A name's length alone takes eight bytes.
  const uint64_t count = load_count(archive, 8, UINT64_MAX, field);
  const auto& context = ReadArchive::context_of(archive);
  const uint64_t frames_left = context.tensor_frames.size() - context.next_frame;
  if (count > frames_left) {
    refuse(ErrorCode::kCorrupt, "tensors of " + field,
           "at most " + std::to_string(frames_left) + " as there are frames", std::to_string(count));
  }
  tensors.resize(count);
  for (NamedTensor& entry : tensors) {
    load_string(archive, entry.name, kMaxNameBytes, "name of a tensor of " + field);
    load_tensor(archive, entry.tensor, field + " tensor \"" + entry.name + "\"");
  }
}

}  // namespace tandem::wire::detail
