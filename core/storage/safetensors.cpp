#include "tandem/core/storage/safetensors.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <new>
#include <optional>
#include <set>
#include <stdexcept>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include <torch/torch.h>
#include <nlohmann/json.hpp>

#include "tandem/core/data/data_description.h"
#include "tandem/core/storage/atomic_file.h"
#include "tandem/core/storage/file_content.h"

namespace tandem {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kMetadataKey = "__metadata__";
constexpr uint64_t kLengthBytes = 8;
/// The bound of the reference implementation.
constexpr uint64_t kMaxHeaderBytes = 100'000'000;

struct DtypeRow {
  const char* name;
  at::ScalarType dtype;
};

constexpr DtypeRow kDtypes[] = {
    {"F32", at::kFloat}, {"F64", at::kDouble}, {"F16", at::kHalf},  {"BF16", at::kBFloat16},
    {"I64", at::kLong},  {"I32", at::kInt},    {"I16", at::kShort}, {"I8", at::kChar},
    {"U8", at::kByte},   {"BOOL", at::kBool},
};

const char* dtype_to_name(const NamedTensor& entry) {
  for (const DtypeRow& row : kDtypes) {
    if (row.dtype == entry.tensor.scalar_type()) return row.name;
  }
  throw std::invalid_argument("safetensors: tensor \"" + entry.name + "\" has dtype " +
                              c10::toString(entry.tensor.scalar_type()) + ", which is not written");
}

std::optional<at::ScalarType> dtype_from_name(const std::string& name) {
  for (const DtypeRow& row : kDtypes) {
    if (name == row.name) return row.dtype;
  }
  return std::nullopt;
}

Error corrupt(const std::string& text) {
  return Error{ErrorCode::kCorrupt, "safetensors: " + text};
}

// Writing.

void check_writable(const NamedTensors& tensors) {
  std::set<std::string_view> names;
  for (const auto& [name, tensor] : tensors) {
    if (name == kMetadataKey)
      throw std::invalid_argument("safetensors: a tensor cannot be named __metadata__");
    if (!names.insert(name).second)
      throw std::invalid_argument("safetensors: two tensors named \"" + name + "\"");
    if (!tensor.defined()) throw std::invalid_argument("safetensors: tensor \"" + name + "\" is undefined");
  }
}

/// The order of the data: every tensor starts at a multiple of its element size, and 64-bit integers,
/// which some readers map in place, come first of all.
std::vector<size_t> data_order(const NamedTensors& tensors) {
  std::vector<size_t> order(tensors.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  const auto rank = [&](size_t i) {
    const at::Tensor& tensor = tensors[i].tensor;
    return std::tuple(tensor.scalar_type() != at::kLong, -static_cast<int64_t>(tensor.element_size()));
  };
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return rank(a) < rank(b); });
  return order;
}

std::string header_text(const NamedTensors& tensors, const std::map<std::string, std::string>& metadata,
                        const std::vector<size_t>& order) {
  std::vector<uint64_t> begins(order.size());
  uint64_t offset = 0;
  for (const size_t i : order) {
    begins[i] = offset;
    offset += tensors[i].tensor.nbytes();
  }
  Json header = Json::object();
  if (!metadata.empty()) header[kMetadataKey] = metadata;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const auto& [name, tensor] = tensors[i];
    header[name] = {{"dtype", dtype_to_name(tensors[i])},
                    {"shape", tensor.sizes().vec()},
                    {"data_offsets", {begins[i], begins[i] + tensor.nbytes()}}};
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const nlohmann::json::exception& error) {
    throw std::invalid_argument(std::string("safetensors: names and metadata must be UTF-8: ") +
                                error.what());
  }
  text.resize((text.size() + 7) / 8 * 8, ' ');
  return text;
}

// Reading.

/// Thrown out of the JSON parser's callback, where nothing else stops it.
struct HeaderError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Refuses duplicate keys, of which nlohmann keeps the last without a word, and nesting that no
/// safetensors header has.
class KeyChecker {
 public:
  bool operator()(int depth, nlohmann::json::parse_event_t event, Json& parsed) {
    using Event = nlohmann::json::parse_event_t;
    if (event == Event::object_start || event == Event::array_start) {
      const int deepest = event == Event::object_start ? 1 : 2;
      if (depth > deepest) throw HeaderError("header: expected at most 3 levels, found more");
      if (event == Event::object_start) keys_[depth].clear();
    }
    if (event == Event::key && !keys_[depth - 1].insert(parsed.get<std::string>()).second) {
      throw HeaderError("header: expected every name once, found \"" + parsed.get<std::string>() +
                        "\" twice");
    }
    return true;
  }

 private:
  std::set<std::string> keys_[2];
};

Result<Json> parse_header(std::string_view text) {
  try {
    KeyChecker checker;
    Json header = Json::parse(text, std::ref(checker));
    if (!header.is_object())
      return corrupt("header: expected a JSON object, found " + std::string(header.type_name()));
    return header;
  } catch (const HeaderError& error) {
    return corrupt(error.what());
  } catch (const nlohmann::json::exception& error) {
    return corrupt(std::string("header: expected JSON, found an error: ") + error.what());
  }
}

/// What the header says of one tensor.
struct Entry {
  std::string name;
  at::ScalarType dtype = at::kFloat;
  std::vector<int64_t> shape;
  uint64_t begin = 0;
  uint64_t end = 0;
};

/// An array of numbers in [0, 2^63).
std::optional<std::vector<int64_t>> read_sizes(const Json& field) {
  if (!field.is_array()) return std::nullopt;
  std::vector<int64_t> sizes;
  for (const Json& item : field) {
    // nlohmann types a number by its text: negative ones and those with a point or above 64 bits differ.
    if (!item.is_number_unsigned()) return std::nullopt;
    const auto size = item.get<uint64_t>();
    if (size > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return std::nullopt;
    sizes.push_back(static_cast<int64_t>(size));
  }
  return sizes;
}

/// Bytes of such a tensor, or nothing on overflow of them or of a stride.
std::optional<uint64_t> byte_count(const std::vector<int64_t>& shape, at::ScalarType dtype) {
  auto product = static_cast<int64_t>(c10::elementSize(dtype));
  bool empty = false;
  for (const int64_t size : shape) {
    if (size == 0) empty = true;
    if (__builtin_mul_overflow(product, std::max<int64_t>(size, 1), &product)) return std::nullopt;
  }
  return empty ? 0 : static_cast<uint64_t>(product);
}

Result<Entry> read_entry(const std::string& name, const Json& fields) {
  const auto wrong = [&](const std::string& text) { return corrupt("tensor \"" + name + "\": " + text); };
  if (!fields.is_object() || fields.size() != 3 || !fields.contains("dtype") || !fields.contains("shape") ||
      !fields.contains("data_offsets")) {
    return wrong("expected dtype, shape and data_offsets, found " + fields.dump().substr(0, 200));
  }
  Entry entry;
  entry.name = name;
  const auto dtype =
      fields["dtype"].is_string() ? dtype_from_name(fields["dtype"].get<std::string>()) : std::nullopt;
  if (!dtype) {
    return wrong("dtype: expected F32, F64, F16, BF16, I64, I32, I16, I8, U8 or BOOL, found " +
                 fields["dtype"].dump().substr(0, 200));
  }
  entry.dtype = *dtype;
  const auto shape = read_sizes(fields["shape"]);
  if (!shape || shape->size() > 64) {
    return wrong("shape: expected at most 64 numbers >= 0, found " + fields["shape"].dump().substr(0, 200));
  }
  entry.shape = *shape;
  const auto offsets = read_sizes(fields["data_offsets"]);
  if (!offsets || offsets->size() != 2) {
    return wrong("data_offsets: expected two numbers >= 0, found " +
                 fields["data_offsets"].dump().substr(0, 200));
  }
  entry.begin = static_cast<uint64_t>((*offsets)[0]);
  entry.end = static_cast<uint64_t>((*offsets)[1]);
  if (entry.begin > entry.end) {
    return wrong("data_offsets: expected begin <= end, found " + fields["data_offsets"].dump());
  }
  const auto bytes = byte_count(entry.shape, entry.dtype);
  if (!bytes)
    return wrong("shape " + shape_to_string(entry.shape) + ": expected a size that fits in 63 bits");
  if (*bytes != entry.end - entry.begin) {
    return wrong("shape " + shape_to_string(entry.shape) + ": expected " + std::to_string(*bytes) +
                 " bytes, found " + std::to_string(entry.end - entry.begin) + " in data_offsets");
  }
  return entry;
}

/// The tensors must tile the data: each byte belongs to exactly one.
Result<void> check_tiling(const std::vector<Entry>& entries, uint64_t data_bytes) {
  std::vector<const Entry*> sorted;
  for (const Entry& entry : entries) sorted.push_back(&entry);
  std::sort(sorted.begin(), sorted.end(), [](const Entry* a, const Entry* b) {
    return std::tie(a->begin, a->end) < std::tie(b->begin, b->end);
  });
  uint64_t position = 0;
  for (const Entry* entry : sorted) {
    if (entry->begin != position) {
      return corrupt("tensor \"" + entry->name + "\": expected its data at " + std::to_string(position) +
                     ", found it at " + std::to_string(entry->begin) +
                     (entry->begin < position ? ", an overlap" : ", a gap"));
    }
    position = entry->end;
  }
  if (position != data_bytes) {
    return corrupt("data: expected " + std::to_string(position) + " bytes, found " +
                   std::to_string(data_bytes));
  }
  return {};
}

Result<std::map<std::string, std::string>> read_metadata(const Json& field) {
  if (field.is_null()) return std::map<std::string, std::string>();  // as programs without metadata write it
  if (!field.is_object())
    return corrupt("__metadata__: expected an object, found " + std::string(field.type_name()));
  std::map<std::string, std::string> metadata;
  for (const auto& [key, value] : field.items()) {
    if (!value.is_string()) {
      return corrupt("__metadata__ \"" + key + "\": expected a string, found " + value.type_name());
    }
    metadata[key] = value.get<std::string>();
  }
  return metadata;
}

Result<at::Tensor> copy_tensor(const Entry& entry, std::string_view data) {
  const std::string_view bytes = data.substr(entry.begin, entry.end - entry.begin);
  if (entry.dtype == at::kBool &&
      std::any_of(bytes.begin(), bytes.end(), [](char c) { return c != 0 && c != 1; })) {
    return corrupt("tensor \"" + entry.name + "\": bool elements: expected 0 or 1, found another value");
  }
  at::Tensor tensor = at::empty(entry.shape, at::TensorOptions().dtype(entry.dtype));
  if (!bytes.empty()) std::memcpy(tensor.data_ptr(), bytes.data(), bytes.size());
  return tensor;
}

Result<SafetensorsContent> read_content(const Json& header, std::string_view data) {
  SafetensorsContent content;
  std::vector<Entry> entries;
  for (const auto& [name, fields] : header.items()) {
    if (name == kMetadataKey) {
      auto metadata = read_metadata(fields);
      if (!metadata) return metadata.error();
      content.metadata = std::move(metadata).value();
      continue;
    }
    auto entry = read_entry(name, fields);
    if (!entry) return entry.error();
    entries.push_back(std::move(entry).value());
  }
  if (auto tiled = check_tiling(entries, data.size()); !tiled) return tiled.error();
  for (const Entry& entry : entries) {
    auto tensor = copy_tensor(entry, data);
    if (!tensor) return tensor.error();
    content.tensors.push_back({entry.name, std::move(tensor).value()});
  }
  return content;
}

}  // namespace

SafetensorsPieces::SafetensorsPieces(const NamedTensors& tensors,
                                     const std::map<std::string, std::string>& metadata) {
  check_writable(tensors);
  const std::vector<size_t> order = data_order(tensors);
  const std::string header = header_text(tensors, metadata, order);
  for (uint64_t i = 0; i < kLengthBytes; ++i) {
    head_ += static_cast<char>(static_cast<uint64_t>(header.size()) >> (8 * i) & 0xff);
  }
  head_ += header;
  views_.push_back(head_);
  for (const size_t i : order) {
    dense_.push_back(tensors[i].tensor.detach().to(at::kCPU).contiguous());
    const at::Tensor& dense = dense_.back();
    if (dense.nbytes() > 0) views_.emplace_back(static_cast<const char*>(dense.data_ptr()), dense.nbytes());
  }
  for (const std::string_view view : views_) size_ += view.size();
}

std::string serialize_safetensors(const SafetensorsContent& content) {
  const SafetensorsPieces pieces(content.tensors, content.metadata);
  std::string bytes;
  bytes.reserve(pieces.size());
  for (const std::string_view view : pieces.views()) bytes += view;
  return bytes;
}

Result<SafetensorsContent> parse_safetensors(const std::string& bytes) {
  if (bytes.size() < kLengthBytes) {
    return corrupt("expected at least 8 bytes, found " + std::to_string(bytes.size()));
  }
  uint64_t header_bytes = 0;
  for (uint64_t i = 0; i < kLengthBytes; ++i) {
    header_bytes |= static_cast<uint64_t>(static_cast<unsigned char>(bytes[i])) << (8 * i);
  }
  const uint64_t most = std::min<uint64_t>(bytes.size() - kLengthBytes, kMaxHeaderBytes);
  if (header_bytes > most) {
    return corrupt("header length: expected at most " + std::to_string(most) + ", found " +
                   std::to_string(header_bytes));
  }
  const std::string_view rest = std::string_view(bytes).substr(kLengthBytes);
  const Result<Json> header = parse_header(rest.substr(0, header_bytes));
  if (!header) return header.error();
  try {
    return read_content(*header, rest.substr(header_bytes));
  } catch (const std::bad_alloc&) {
    return corrupt("no memory for its tensors");
  } catch (const std::exception& error) {  // nlohmann's and LibTorch's
    return corrupt(error.what());
  }
}

Result<void> save_safetensors(const std::filesystem::path& path, const SafetensorsContent& content) {
  return write_parts_atomically(path, SafetensorsPieces(content.tensors, content.metadata).views());
}

Result<SafetensorsContent> load_safetensors(const std::filesystem::path& path) {
  std::error_code unknown;
  if (const auto dangling = dangling_link(path)) {
    return Error{ErrorCode::kNotFound, path.string() + " " + *dangling};
  }
  if (std::filesystem::is_directory(path, unknown)) {
    return Error{ErrorCode::kIo, path.string() + " is a folder; give a file, such as " +
                                     (path / "model.safetensors").string()};
  }
  const Result<std::string> bytes = read_file(path);
  if (!bytes) return bytes.error();
  Result<SafetensorsContent> content = parse_safetensors(*bytes);
  if (content) return content;
  const auto wrong = is_safetensors(*bytes) ? std::nullopt : wrong_content(*bytes, "a safetensors file");
  return Error{content.error().code, path.string() + (wrong ? " " + *wrong : ": " + content.error().message)};
}

}  // namespace tandem
