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
void require_version(const char* name, uint32_t version);

// Numbers and enumerations.

void save_finite(Writer& archive, double value, const std::string& field);
void load_finite(Reader& archive, double& value, const std::string& field);

/// A bool travels as a byte: any other value than 0 and 1 in a bool is undefined behaviour.
void load_bool(Reader& archive, bool& value, const std::string& field);

template <class Enum>
void save_enum(Writer& archive, Enum value, Enum first, Enum last, const std::string& field) {
  if (value < first || value > last) {
    throw std::invalid_argument(field + " has no value " + std::to_string(static_cast<int64_t>(value)));
  }
  archive(static_cast<std::underlying_type_t<Enum>>(value));
}

template <class Enum>
void load_enum(Reader& archive, Enum& value, Enum first, Enum last, const std::string& field) {
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

/// Refuses a list that is longer than its `load` takes, and writes its length.
void save_length(Writer& archive, uint64_t length, uint64_t most, const std::string& field);

void save_shape(Writer& archive, const std::vector<int64_t>& shape, const std::string& field);
void load_shape(Reader& archive, std::vector<int64_t>& shape, const std::string& field);

void save_string(Writer& archive, const std::string& value, size_t most, const std::string& field);
void load_string(Reader& archive, std::string& value, size_t most, const std::string& field);

/// Text for people is cut rather than refused: a long reason must not stop the message that carries it.
void save_prose(Writer& archive, const std::string& value);
void load_prose(Reader& archive, std::string& value, const std::string& field);

// Tensors: a descriptor in the body, the elements in a frame.

void save_tensor(Writer& archive, const at::Tensor& tensor, const std::string& field);
void load_tensor(Reader& archive, at::Tensor& tensor, const std::string& field);

void save_tensors(Writer& archive, const NamedTensors& tensors, const std::string& field);
void load_tensors(Reader& archive, NamedTensors& tensors, const std::string& field);

/// The fields of a struct in their order on the wire: `kName`, and `visit(fields, value)`, which calls one
/// function of `fields` for each and serves both directions.
template <class Struct>
struct FieldList;

template <class Struct>
concept HasFieldList = requires {
  FieldList<Struct>::kName;
};

/// What `visit` calls to write a struct. Throws std::invalid_argument for what FieldReader would refuse.
class FieldWriter {
 public:
  FieldWriter(Writer& archive, const char* name) : archive_(archive), name_(name) {}

  /// Numbers, any value of them.
  void numbers(const auto&... values) { archive_(values...); }
  /// Structs with a list of their own.
  void structs(const auto&... values) { archive_(values...); }
  void finite(const char* field, double value) { save_finite(archive_, value, path(field)); }
  void flag(const char*, bool value) { archive_(static_cast<uint8_t>(value)); }
  template <class Enum>
  void enumerated(const char* field, Enum value, Enum first, Enum last) {
    save_enum(archive_, value, first, last, path(field));
  }
  void text(const char* field, const std::string& value, size_t most) {
    save_string(archive_, value, most, path(field));
  }
  /// Text for people, which is cut at the longest length.
  void prose(const char*, const std::string& value) { save_prose(archive_, value); }
  void shape(const char* field, const std::vector<int64_t>& value) {
    save_shape(archive_, value, path(field));
  }
  void array(const char*, const std::vector<uint32_t>& values) { save_numbers(archive_, values); }
  /// At most `most` structs of at least `bytes_each` bytes.
  template <class Struct>
  void list(const char* field, const std::vector<Struct>& values, uint64_t most, uint64_t /*bytes_each*/) {
    save_length(archive_, values.size(), most, path(field));
    for (const Struct& value : values) archive_(value);
  }
  void tensor(const char* field, const at::Tensor& value) { save_tensor(archive_, value, path(field)); }
  void tensors(const char* field, const NamedTensors& values) { save_tensors(archive_, values, path(field)); }

 private:
  std::string path(const char* field) const { return std::string(name_) + "." + field; }

  Writer& archive_;
  const char* name_;
};

/// What `visit` calls to read a struct. Throws BodyError.
class FieldReader {
 public:
  FieldReader(Reader& archive, const char* name) : archive_(archive), name_(name) {}

  void numbers(auto&... values) { archive_(values...); }
  void structs(auto&... values) { archive_(values...); }
  void finite(const char* field, double& value) { load_finite(archive_, value, path(field)); }
  void flag(const char* field, bool& value) { load_bool(archive_, value, path(field)); }
  template <class Enum>
  void enumerated(const char* field, Enum& value, Enum first, Enum last) {
    load_enum(archive_, value, first, last, path(field));
  }
  void text(const char* field, std::string& value, size_t most) {
    load_string(archive_, value, most, path(field));
  }
  void prose(const char* field, std::string& value) { load_prose(archive_, value, path(field)); }
  void shape(const char* field, std::vector<int64_t>& value) { load_shape(archive_, value, path(field)); }
  void array(const char* field, std::vector<uint32_t>& values) {
    load_numbers(archive_, values, UINT64_MAX, path(field));
  }
  template <class Struct>
  void list(const char* field, std::vector<Struct>& values, uint64_t most, uint64_t bytes_each) {
    // The first also brings the struct's version.
    values.resize(load_count(archive_, bytes_each, most, path(field)));
    for (Struct& value : values) archive_(value);
  }
  void tensor(const char* field, at::Tensor& value) { load_tensor(archive_, value, path(field)); }
  void tensors(const char* field, NamedTensors& values) { load_tensors(archive_, values, path(field)); }

 private:
  std::string path(const char* field) const { return std::string(name_) + "." + field; }

  Reader& archive_;
  const char* name_;
};

}  // namespace tandem::wire::detail

// cereal calls these for every struct that has a list, wherever the struct is from.
namespace cereal {

template <tandem::wire::detail::HasFieldList Struct>
void save(tandem::wire::detail::Writer& archive, const Struct& value, const std::uint32_t) {
  using List = tandem::wire::detail::FieldList<Struct>;
  tandem::wire::detail::FieldWriter fields(archive, List::kName);
  List::visit(fields, value);
}

template <tandem::wire::detail::HasFieldList Struct>
void load(tandem::wire::detail::Reader& archive, Struct& value, const std::uint32_t version) {
  using List = tandem::wire::detail::FieldList<Struct>;
  tandem::wire::detail::require_version(List::kName, version);
  tandem::wire::detail::FieldReader fields(archive, List::kName);
  List::visit(fields, value);
}

}  // namespace cereal

// Every struct has its first version until the first release freezes them.
template <tandem::wire::detail::HasFieldList Struct, class Tag>
struct cereal::detail::Version<Struct, Tag> {
  static const std::uint32_t version = 1;
};
