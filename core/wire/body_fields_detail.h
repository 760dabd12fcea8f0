#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include <ATen/core/Tensor.h>

#include "tandem/core/base/result.h"
#include "tandem/core/model/named_tensors.h"
#include "tandem/core/wire/body_archive_detail.h"

/// The kinds of field that the bodies of messages are made of. `field` is how an error names the field. A
/// `save` throws std::invalid_argument for what its `load` would refuse; a `load` throws BodyError, and takes
/// memory for a length only where the bytes for it are there.
namespace tandem::wire::detail {

/// "FIELD: expected EXPECTED, found FOUND".
[[noreturn]] void refuse(ErrorCode code, const std::string& field, const std::string& expected,
                         const std::string& found);

/// Refuses a struct's version that this build does not know. `name` is the struct's.
void require_version(const char* name, uint32_t version, uint32_t newest = 1);

// Numbers and enumerations.

void save_finite(Writer& archive, double value, const char* field);
void load_finite(Reader& archive, double& value, const char* field);

/// A bool travels as a byte: any other value than 0 and 1 in a bool is undefined behaviour.
void load_bool(Reader& archive, bool& value, const char* field);

template <class Enum>
void save_enum(Writer& archive, Enum value, Enum first, Enum last, const char* field) {
  if (value < first || value > last) {
    throw std::invalid_argument(std::string(field) + " has no value " +
                                std::to_string(static_cast<int64_t>(value)));
  }
  archive(static_cast<std::underlying_type_t<Enum>>(value));
}

template <class Enum>
void load_enum(Reader& archive, Enum& value, Enum first, Enum last, const char* field) {
  std::underlying_type_t<Enum> raw = 0;
  archive(raw);
  const auto lowest = static_cast<int64_t>(first), highest = static_cast<int64_t>(last);
  if (raw < lowest || raw > highest) {
    refuse(ErrorCode::kCorrupt, field, std::to_string(lowest) + " to " + std::to_string(highest),
           std::to_string(static_cast<int64_t>(raw)));
  }
  value = static_cast<Enum>(raw);
}

// Everything with a length, in front of it.

/// A length of at most `most` elements that take at least `element_bytes` each of what is left of the body.
uint64_t load_count(Reader& archive, uint64_t element_bytes, uint64_t most, const std::string& field);

template <class T>
void save_numbers(Writer& archive, const std::vector<T>& values) {
  archive(static_cast<uint64_t>(values.size()));
  archive(cereal::binary_data(values.data(), values.size() * sizeof(T)));
}

template <class T>
void load_numbers(Reader& archive, std::vector<T>& values, uint64_t most, const std::string& field) {
  values.resize(load_count(archive, sizeof(T), most, field));
  archive(cereal::binary_data(values.data(), values.size() * sizeof(T)));
}

void save_shape(Writer& archive, const std::vector<int64_t>& shape, const char* field);

void save_string(Writer& archive, const std::string& value, size_t most, const std::string& field);
void load_string(Reader& archive, std::string& value, size_t most, const std::string& field);

/// Text for people is cut rather than refused: a long reason must not stop the message that carries it.
void save_prose(Writer& archive, const std::string& value);

// Tensors: a descriptor in the body, the elements in a frame.

void save_tensor(Writer& archive, const at::Tensor& tensor, const std::string& field);
void load_tensor(Reader& archive, at::Tensor& tensor, const std::string& field);

void save_tensors(Writer& archive, const NamedTensors& tensors, const char* field);
void load_tensors(Reader& archive, NamedTensors& tensors, const char* field);

}  // namespace tandem::wire::detail
