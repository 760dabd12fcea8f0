#include "tandem/core/wire/tensor_codec.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>

#include <torch/torch.h>

#include "tandem/core/data/data_description.h"

// Frames hold the elements as they lie in memory, and the format is little-endian.
static_assert(std::endian::native == std::endian::little, "the wire format needs a little-endian machine");

namespace tandem::wire {
namespace {

struct DtypeRow {
  TensorDtype wire;
  at::ScalarType torch;
};

constexpr DtypeRow kDtypes[] = {
    {TensorDtype::kFloat32, at::kFloat}, {TensorDtype::kFloat64, at::kDouble},
    {TensorDtype::kFloat16, at::kHalf},  {TensorDtype::kBFloat16, at::kBFloat16},
    {TensorDtype::kInt64, at::kLong},    {TensorDtype::kInt32, at::kInt},
    {TensorDtype::kUint8, at::kByte},    {TensorDtype::kBool, at::kBool},
};

TensorDtype to_wire(at::ScalarType dtype) {
  for (const DtypeRow& row : kDtypes) {
    if (row.torch == dtype) return row.wire;
  }
  throw std::invalid_argument(std::string("a tensor of dtype ") + c10::toString(dtype) +
                              " cannot travel; convert it to float, int64, int32, uint8 or bool");
}

std::optional<at::ScalarType> to_torch(TensorDtype dtype) {
  for (const DtypeRow& row : kDtypes) {
    if (row.wire == dtype) return row.torch;
  }
  return std::nullopt;
}

bool all_ones(const std::vector<int64_t>& dims, size_t from) {
  return std::all_of(dims.begin() + static_cast<ptrdiff_t>(from), dims.end(),
                     [](int64_t size) { return size == 1; });
}

std::vector<int64_t> dense_strides(const std::vector<int64_t>& dims, TensorFormat format) {
  if (format == TensorFormat::kChannelsLast) {
    const int64_t c = dims[1], h = dims[2], w = dims[3];
    return {h * w * c, 1, w * c, c};
  }
  std::vector<int64_t> strides(dims.size());
  int64_t stride = 1;
  for (size_t i = dims.size(); i-- > 0;) {
    strides[i] = stride;
    stride *= std::max<int64_t>(dims[i], 1);
  }
  return strides;
}

/// Elements, or nothing when the strides or the byte count of such a tensor would overflow.
std::optional<int64_t> count_elements(const std::vector<int64_t>& dims, int64_t element_bytes) {
  int64_t product = element_bytes;
  bool empty = false;
  for (const int64_t size : dims) {
    if (size == 0) empty = true;
    // A zero does not excuse the other factors: strides are products of them.
    if (__builtin_mul_overflow(product, std::max<int64_t>(size, 1), &product)) return std::nullopt;
  }
  return empty ? 0 : product / element_bytes;
}

Error corrupt(std::string text) {
  return Error{ErrorCode::kCorrupt, std::move(text)};
}

std::optional<Error> check_kinds(const TensorDescriptor& descriptor) {
  if (!to_torch(descriptor.dtype)) {
    return corrupt("dtype: expected 1 to 8, found " + std::to_string(static_cast<int>(descriptor.dtype)));
  }
  if (descriptor.codec != TensorCodec::kRaw) {
    return Error{ErrorCode::kProtocol,
                 "codec: expected 0 (raw), found " + std::to_string(static_cast<int>(descriptor.codec))};
  }
  if (descriptor.format != TensorFormat::kContiguous && descriptor.format != TensorFormat::kChannelsLast) {
    return corrupt("memory format: expected 0 or 1, found " +
                   std::to_string(static_cast<int>(descriptor.format)));
  }
  return std::nullopt;
}

std::optional<Error> check_dims(const TensorDescriptor& descriptor) {
  const auto& dims = descriptor.dims;
  if (dims.size() > kMaxDims) {
    return corrupt("dimensions: expected at most " + std::to_string(kMaxDims) + ", found " +
                   std::to_string(dims.size()));
  }
  for (const int64_t size : dims) {
    if (size < 0) return corrupt("dimension: expected >= 0, found " + std::to_string(size));
  }
  const bool dense_4d = dims.size() == 4 && std::find(dims.begin(), dims.end(), 0) == dims.end();
  if (descriptor.format == TensorFormat::kChannelsLast && !dense_4d) {
    return corrupt("channels-last shape: expected 4 dimensions above 0, found " + shape_to_string(dims));
  }
  return std::nullopt;
}

std::optional<Error> check_sizes(const TensorDescriptor& descriptor, int64_t element_bytes,
                                 const Frame& frame, uint64_t max_bytes) {
  if (frame.size() > max_bytes || descriptor.bytes > max_bytes) {
    return Error{ErrorCode::kTooLarge,
                 "bytes: expected at most " + std::to_string(max_bytes) + ", found " +
                     std::to_string(std::max<uint64_t>(frame.size(), descriptor.bytes))};
  }
  if (descriptor.bytes != frame.size()) {
    return Error{ErrorCode::kShapeMismatch, "bytes in its frame: expected " +
                                                std::to_string(descriptor.bytes) + ", found " +
                                                std::to_string(frame.size())};
  }
  const std::optional<int64_t> elements = count_elements(descriptor.dims, element_bytes);
  if (!elements) {
    return Error{ErrorCode::kShapeMismatch, "shape " + shape_to_string(descriptor.dims) +
                                                ": expected a size that fits in 63 bits, found an overflow"};
  }
  if (static_cast<uint64_t>(*elements * element_bytes) != descriptor.bytes) {
    return Error{ErrorCode::kShapeMismatch, "shape " + shape_to_string(descriptor.dims) + " of " +
                                                std::to_string(element_bytes) + "-byte elements: expected " +
                                                std::to_string(*elements * element_bytes) + " bytes, found " +
                                                std::to_string(descriptor.bytes)};
  }
  return std::nullopt;
}

bool only_zeros_and_ones(const Frame& frame) {
  return std::all_of(frame.data(), frame.data() + frame.size(),
                     [](std::byte value) { return static_cast<unsigned>(value) <= 1; });
}

at::Tensor borrow_or_copy(const Frame& frame, const std::vector<int64_t>& dims, TensorFormat format,
                          at::ScalarType dtype) {
  const auto options = at::TensorOptions().dtype(dtype);
  const std::vector<int64_t> strides = dense_strides(dims, format);
  const bool aligned = reinterpret_cast<uintptr_t>(frame.data()) % c10::elementSize(dtype) == 0;
  if (frame.size() > 0 && aligned) {
    // from_blob takes no pointer to const; that nobody writes is the contract of decode_tensor.
    auto* data = const_cast<std::byte*>(frame.data());
    return at::from_blob(
        data, dims, strides, [frame](void*) {}, options);
  }
  at::Tensor tensor = at::empty_strided(dims, strides, options);
  if (frame.size() > 0) std::memcpy(tensor.data_ptr(), frame.data(), frame.size());
  return tensor;
}

at::Tensor make_tensor(const TensorDescriptor& descriptor, at::ScalarType dtype, const Frame& frame) {
  at::Tensor tensor = borrow_or_copy(frame, descriptor.dims, descriptor.format, dtype);
  if (descriptor.format != TensorFormat::kChannelsLast || !all_ones(descriptor.dims, 1)) return tensor;
  // Dense strides of [N, 1, 1, 1] read as row-major; a slice of a channels-last tensor is told from them
  // only by the gaps between its elements, so these are put back.
  at::Tensor spaced = at::empty_strided(descriptor.dims, {2, 1, 2, 2}, tensor.options());
  return spaced.copy_(tensor);
}

}  // namespace

EncodedTensor encode_tensor(const at::Tensor& tensor) {
  if (!tensor.defined()) throw std::invalid_argument("an undefined tensor cannot travel");
  if (tensor.layout() != at::kStrided) throw std::invalid_argument("a sparse tensor cannot travel");
  if (!tensor.device().is_cpu()) {
    throw std::invalid_argument("only a tensor on the CPU can travel, this one is on " +
                                tensor.device().str());
  }
  if (static_cast<size_t>(tensor.dim()) > kMaxDims) {
    throw std::invalid_argument("a tensor on the wire has at most " + std::to_string(kMaxDims) +
                                " dimensions, this one has " + std::to_string(tensor.dim()));
  }
  EncodedTensor encoded;
  encoded.descriptor.dtype = to_wire(tensor.scalar_type());
  const bool channels_last = tensor.suggest_memory_format() == at::MemoryFormat::ChannelsLast;
  if (channels_last) encoded.descriptor.format = TensorFormat::kChannelsLast;
  encoded.descriptor.dims = tensor.sizes().vec();
  auto dense = std::make_shared<const at::Tensor>(tensor.detach().contiguous(
      channels_last ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous));
  encoded.descriptor.bytes = dense->nbytes();
  encoded.frame = Frame::borrow(dense, dense->data_ptr(), dense->nbytes());
  return encoded;
}

Result<at::Tensor> decode_tensor(const TensorDescriptor& descriptor, const Frame& frame, uint64_t max_bytes) {
  if (auto error = check_kinds(descriptor)) return *error;
  if (auto error = check_dims(descriptor)) return *error;
  const at::ScalarType dtype = *to_torch(descriptor.dtype);
  const auto element_bytes = static_cast<int64_t>(c10::elementSize(dtype));
  if (auto error = check_sizes(descriptor, element_bytes, frame, max_bytes)) return *error;
  if (dtype == at::kBool && !only_zeros_and_ones(frame)) {
    return corrupt("bool elements: expected 0 or 1, found another value");
  }
  try {
    return make_tensor(descriptor, dtype, frame);
  } catch (const std::bad_alloc&) {
    return Error{ErrorCode::kTooLarge, "no memory for " + std::to_string(frame.size()) + " bytes"};
  } catch (const c10::Error& error) {
    return Error{ErrorCode::kTooLarge,
                 std::string("LibTorch refused the tensor: ") + error.what_without_backtrace()};
  }
}

}  // namespace tandem::wire
