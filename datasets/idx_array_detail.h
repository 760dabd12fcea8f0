#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "tandem/core/base/result.h"
#include "tandem/datasets/gzip_reader_detail.h"

namespace tandem::datasets {

/// What the header of an IDX file announces.
struct IdxHeader {
  at::ScalarType type = at::kByte;
  std::vector<int64_t> sizes;  ///< 1 to 4, all above 0; the values are at most 2^60
  int64_t bytes = 0;           ///< of the header

  /// "int32 200 x 12 x 12"
  std::string describe() const;
};

/// "60,000"
std::string with_commas(uint64_t value);

/// Reads the header: two zero bytes, a byte for the type of the elements (unsigned and signed bytes, 16- and
/// 32-bit integers, float32, float64), one for the number of dimensions, and their sizes. kCorrupt says what
/// the file is instead, or which type and how many dimensions it announces. `content` for messages: "image"
/// or "label".
Result<IdxHeader> read_idx_header(GzipReader& reader, const std::string& content);

/// Reads the rest of the file, which must be exactly what the header announced, into a tensor of the type and
/// sizes that the header names. Memory is taken only for what the file can hold.
Result<at::Tensor> read_idx_values(GzipReader& reader, const IdxHeader& header, const std::string& noun);

}  // namespace tandem::datasets
