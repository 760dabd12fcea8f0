#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "tandem/core/base/result.h"
#include "tandem/core/model/named_tensors.h"

namespace tandem {

/// Tensors and string metadata, as a safetensors file holds them.
struct SafetensorsContent {
  NamedTensors tensors;
  std::map<std::string, std::string> metadata;
};

/// safetensors (an 8-byte little-endian header length, a JSON header padded with spaces to 8 bytes, raw
/// row-major little-endian data; 64-bit integers first so that every tensor is aligned). Executes nothing
/// when read. Tensors in other memory formats are written row-major.
std::string serialize_safetensors(const SafetensorsContent& content);

/// The same bytes as pieces, in order. Tensors that are dense and on the CPU are not copied: nobody may
/// write them while the pieces are used.
class SafetensorsPieces {
 public:
  SafetensorsPieces(const NamedTensors& tensors, const std::map<std::string, std::string>& metadata);
  SafetensorsPieces(const SafetensorsPieces&) = delete;  // its views point into itself
  SafetensorsPieces& operator=(const SafetensorsPieces&) = delete;

  const std::vector<std::string_view>& views() const { return views_; }
  uint64_t size() const { return size_; }

 private:
  std::string head_;
  std::vector<at::Tensor> dense_;
  std::vector<std::string_view> views_;
  uint64_t size_ = 0;
};

/// Checks everything the header claims against the bytes present before a tensor is made: length, JSON,
/// dtypes, shapes x dtype = offsets, no gap, no overlap. kCorrupt says what is wrong. Tensors come in file
/// order of the header as written by `serialize_safetensors`.
Result<SafetensorsContent> parse_safetensors(const std::string& bytes);

/// Atomically (see atomic_file.h); kIo names the path.
Result<void> save_safetensors(const std::filesystem::path& path, const SafetensorsContent& content);
/// Errors name the path, and what the file is where it is something else.
Result<SafetensorsContent> load_safetensors(const std::filesystem::path& path);

}  // namespace tandem
