#include <ATen/ops/empty.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdio>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tandem/core/storage/file_content.h"
#include "tandem/datasets/idx_array_detail.h"

namespace tandem::datasets {
namespace {

constexpr size_t kMaxRank = 4;
/// What an example may hold at most, and how many values a file.
constexpr int64_t kMaxExampleValues = int64_t{1} << 28;
constexpr int64_t kMaxSide = 16384;

struct ElementType {
  uint8_t code;
  at::ScalarType type;
  const char* name;
};

constexpr ElementType kElementTypes[] = {
    {0x08, at::kByte, "uint8"}, {0x09, at::kChar, "int8"},     {0x0B, at::kShort, "int16"},
    {0x0C, at::kInt, "int32"},  {0x0D, at::kFloat, "float32"}, {0x0E, at::kDouble, "float64"},
};

const char* name_of(at::ScalarType type) {
  for (const ElementType& known : kElementTypes) {
    if (known.type == type) return known.name;
  }
  return "unknown";
}

std::string hexadecimal(uint32_t value, int digits) {
  std::array<char, 16> text{};
  std::snprintf(text.data(), text.size(), "0x%0*X", digits, value);
  return text.data();
}

uint32_t big_endian(std::span<const uint8_t> bytes) {
  return uint32_t{bytes[0]} << 24 | uint32_t{bytes[1]} << 16 | uint32_t{bytes[2]} << 8 | uint32_t{bytes[3]};
}

Error corrupt(const GzipReader& reader, const std::string& problem) {
  return {ErrorCode::kCorrupt, reader.file().string() + ": " + problem};
}

Error too_short(const GzipReader& reader, uint64_t found, size_t header_bytes, const std::string& content) {
  return corrupt(reader, "holds " + with_commas(found) + " bytes, less than the " +
                             std::to_string(header_bytes) + "-byte header of an IDX " + content +
                             " file; fetch it again");
}

/// The file does not begin like an IDX file: what is it?
Error not_idx(GzipReader& reader, std::span<const uint8_t> magic, const std::string& content) {
  std::string beginning(magic.begin(), magic.end());
  std::vector<uint8_t> more(kRecognizedBytes - magic.size());
  const auto got = reader.read(more);
  if (got) beginning.append(more.begin(), more.begin() + static_cast<std::ptrdiff_t>(*got));
  const std::string wanted = "an IDX " + content + " file";
  if (const auto wrong = wrong_content(beginning, wanted)) {
    return {ErrorCode::kCorrupt, reader.file().string() + " " + *wrong};
  }
  if (magic.size() < 4) return too_short(reader, magic.size(), 4, content);
  return corrupt(reader, "begins with " + hexadecimal(big_endian(magic), 8) + ", expected 0x0000TTDD of " +
                             wanted + " (TT the type of its elements, DD the number of its dimensions)");
}

Result<void> check_sizes(const GzipReader& reader, const IdxHeader& header) {
  if (header.sizes[0] == 0) return corrupt(reader, "its header announces no examples");
  int64_t values = 1;
  for (size_t i = 1; i < header.sizes.size(); ++i) {
    const int64_t most = header.sizes.size() > 2 ? kMaxSide : kMaxExampleValues;
    if (header.sizes[i] < 1 || header.sizes[i] > most) {
      return corrupt(reader, "its header announces " + header.describe() + ", expected 1.." +
                                 std::to_string(most) + " in each direction");
    }
    values *= header.sizes[i];  // at most 2^42
  }
  if (values <= kMaxExampleValues) return {};
  return corrupt(reader, "its header announces " + header.describe() + ", expected at most " +
                             with_commas(kMaxExampleValues) + " values in an example");
}

std::string formula(const IdxHeader& header) {
  const std::string bytes = std::to_string(c10::elementSize(header.type)) + " bytes of " + header.describe();
  if (header.type != at::kByte) return " (" + bytes + ")";
  if (header.sizes.size() == 1) return "";
  const std::string text = header.describe();
  return " (" + text.substr(text.find(' ') + 1) + ")";
}

struct Payload {
  uint64_t bytes;
  std::string noun;  ///< "image data"
};

Error wrong_length(const GzipReader& reader, const IdxHeader& header, const Payload& payload,
                   uint64_t found) {
  const std::string verdict =
      found < payload.bytes ? "the file is truncated" : "the file is longer than its header says";
  return corrupt(reader, "holds " + with_commas(found) + " bytes of " + payload.noun + " after the " +
                             std::to_string(header.bytes) + "-byte header, expected " +
                             with_commas(payload.bytes) + formula(header) + ": " + verdict +
                             "; fetch it again");
}

Result<at::Tensor> allocate(const GzipReader& reader, const IdxHeader& header, uint64_t bytes) {
  try {
    return at::empty(header.sizes, header.type);
  } catch (const std::exception&) {
    return Error{ErrorCode::kTooLarge,
                 reader.file().string() + ": no memory for " + with_commas(bytes) + " bytes"};
  }
}

/// IDX files are big-endian.
void to_native_order(std::span<uint8_t> bytes, size_t element_size) {
  if (element_size == 1 || std::endian::native == std::endian::big) return;
  for (size_t at = 0; at + element_size <= bytes.size(); at += element_size) {
    std::reverse(bytes.begin() + static_cast<std::ptrdiff_t>(at),
                 bytes.begin() + static_cast<std::ptrdiff_t>(at + element_size));
  }
}

}  // namespace

std::string IdxHeader::describe() const {
  std::string text = name_of(type);
  for (size_t i = 0; i < sizes.size(); ++i) text += (i == 0 ? " " : " x ") + std::to_string(sizes[i]);
  return text;
}

std::string with_commas(uint64_t value) {
  const std::string digits = std::to_string(value);
  std::string text;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) text += ',';
    text += digits[i];
  }
  return text;
}

Result<IdxHeader> read_idx_header(GzipReader& reader, const std::string& content) {
  std::array<uint8_t, 4> magic{};
  const Result<uint64_t> got = reader.read(magic);
  if (!got) return got.error();
  if (*got < magic.size() || magic[0] != 0 || magic[1] != 0) {
    return not_idx(reader, std::span(magic).first(*got), content);
  }
  const size_t rank = magic[3];
  const auto* type = std::find_if(std::begin(kElementTypes), std::end(kElementTypes),
                                  [&](const ElementType& known) { return known.code == magic[2]; });
  if (type == std::end(kElementTypes)) {
    return corrupt(reader,
                   "announces elements of type " + hexadecimal(magic[2], 2) + " in " + std::to_string(rank) +
                       " dimension(s); IDX has uint8 (0x08), int8 (0x09), int16 (0x0B), int32 (0x0C), "
                       "float32 (0x0D) and float64 (0x0E)");
  }
  if (rank < 1 || rank > kMaxRank) {
    return corrupt(reader, "announces " + std::string(type->name) + " in " + std::to_string(rank) +
                               " dimensions, expected 1 to " + std::to_string(kMaxRank));
  }
  std::vector<uint8_t> sizes(4 * rank);
  const Result<uint64_t> more = reader.read(sizes);
  if (!more) return more.error();
  if (*more < sizes.size()) return too_short(reader, 4 + *more, 4 + sizes.size(), content);
  IdxHeader header{.type = type->type, .bytes = static_cast<int64_t>(4 + sizes.size())};
  for (size_t i = 0; i < rank; ++i) header.sizes.push_back(big_endian(std::span(sizes).subspan(4 * i, 4)));
  if (auto checked = check_sizes(reader, header); !checked) return checked.error();
  return header;
}

Result<at::Tensor> read_idx_values(GzipReader& reader, const IdxHeader& header, const std::string& noun) {
  Payload payload{.bytes = c10::elementSize(header.type), .noun = noun};
  for (const int64_t size : header.sizes) payload.bytes *= static_cast<uint64_t>(size);  // at most 2^63
  if (!reader.can_hold(payload.bytes)) {
    const Result<uint64_t> found = reader.count_rest();
    if (!found) return found.error();
    return wrong_length(reader, header, payload, *found);
  }
  Result<at::Tensor> data = allocate(reader, header, payload.bytes);
  if (!data) return data;
  const std::span bytes(static_cast<uint8_t*>(data->data_ptr()), payload.bytes);
  const Result<uint64_t> found = reader.read(bytes);
  if (!found) return found.error();
  const Result<uint64_t> excess = reader.count_rest();
  if (!excess) return excess.error();
  if (*found + *excess != payload.bytes) {
    return wrong_length(reader, header, payload, *found + *excess);
  }
  if (reader.cut_off()) {
    return corrupt(reader, "the gzip stream ends before its checksum: the file is truncated; fetch it again");
  }
  to_native_order(bytes, c10::elementSize(header.type));
  return data;
}

}  // namespace tandem::datasets
