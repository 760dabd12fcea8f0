#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "tandem/core/base/result.h"
#include "tandem/core/wire/frame.h"

namespace tandem::wire {

/// How a tensor's elements become the bytes of its frame. Written values: never renumber.
enum class TensorCodec : uint8_t {
  kRaw = 0,  ///< the elements themselves, little-endian, dense in the descriptor's memory format
};

/// Element types that travel. Written values: never renumber.
enum class TensorDtype : uint8_t {
  kFloat32 = 1,
  kFloat64 = 2,
  kFloat16 = 3,
  kBFloat16 = 4,
  kInt64 = 5,
  kInt32 = 6,
  kUint8 = 7,
  kBool = 8,  ///< one byte an element, 0 or 1
};

/// Order of the elements. Kernels choose their algorithm, and so their rounding, by it, hence it travels.
/// Written values: never renumber.
enum class TensorFormat : uint8_t {
  kContiguous = 0,    ///< row-major, any number of dimensions
  kChannelsLast = 1,  ///< [N, C, H, W] with C varying fastest; only for 4 dimensions, none of them 0
};

/// Most dimensions a tensor or shape on the wire may have.
inline constexpr size_t kMaxDims = 8;

/// What the body says of one tensor frame.
struct TensorDescriptor {
  TensorDtype dtype = TensorDtype::kFloat32;
  TensorCodec codec = TensorCodec::kRaw;
  TensorFormat format = TensorFormat::kContiguous;
  std::vector<int64_t> dims;  ///< empty for a scalar
  uint64_t bytes = 0;         ///< length of the frame
};

struct EncodedTensor {
  TensorDescriptor descriptor;
  Frame frame;
};

/// Borrows the tensor's memory, detached; a tensor that is not dense in its suggest_memory_format() is
/// copied first (5-dimensional channels-last becomes row-major). Nobody may write the tensor while the
/// frame lives. Throws std::invalid_argument for an undefined or sparse tensor, one that is not on the CPU,
/// has more than kMaxDims dimensions or a dtype that does not travel.
EncodedTensor encode_tensor(const at::Tensor& tensor);

/// The reverse. The tensor's strides give suggest_memory_format() the answer it gave at the sender, also
/// where a dimension is 1. It borrows the frame, which must then not be written through it, if the frame's
/// address is a multiple of the element size, and is a copy if not. Never throws. kCorrupt for an unknown
/// dtype or format, or a bool that is neither 0 nor 1; kProtocol for an unknown codec; kTooLarge above
/// `max_bytes`; kShapeMismatch when dims, bytes and frame disagree.
Result<at::Tensor> decode_tensor(const TensorDescriptor& descriptor, const Frame& frame, uint64_t max_bytes);

}  // namespace tandem::wire
