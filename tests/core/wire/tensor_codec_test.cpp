#include "tandem/core/wire/tensor_codec.h"

#include <cstring>
#include <string>
#include <vector>

#include "core/wire/sample_messages.h"
#include "support/test.h"

using namespace tandem;
using namespace tandem::wire;

namespace {

constexpr uint64_t kMost = 1 << 20;

at::Tensor round_trip(const at::Tensor& tensor) {
  const EncodedTensor encoded = encode_tensor(tensor);
  auto decoded = decode_tensor(encoded.descriptor, encoded.frame, kMost);
  REQUIRE_MESSAGE(decoded.has_value(), decoded.error().message);
  return *decoded;
}

Error refused(const TensorDescriptor& descriptor, const Frame& frame, uint64_t most = kMost) {
  const auto decoded = decode_tensor(descriptor, frame, most);
  REQUIRE_FALSE(decoded.has_value());
  return decoded.error();
}

/// A frame of that many zero bytes whose address is `offset` past a multiple of 16.
Frame frame_at(size_t offset, size_t size) {
  auto holder = std::make_shared<std::vector<std::max_align_t>>(size / sizeof(std::max_align_t) + 2);
  return Frame::borrow(holder, reinterpret_cast<const char*>(holder->data()) + offset, size);
}

}  // namespace

TEST_SUITE("core/wire/tensor_codec") {
  TEST_CASE("every dtype comes back with its bits, and has its written value") {
    const std::pair<at::ScalarType, int> rows[] = {{at::kFloat, 1},    {at::kDouble, 2}, {at::kHalf, 3},
                                                   {at::kBFloat16, 4}, {at::kLong, 5},   {at::kInt, 6},
                                                   {at::kByte, 7},     {at::kBool, 8}};
    for (const auto& [dtype, value] : rows) {
      CAPTURE(value);
      const at::Tensor tensor = counting({3, 2}, dtype);
      CHECK(static_cast<int>(encode_tensor(tensor).descriptor.dtype) == value);
      check_same_tensor(tensor, round_trip(tensor));
    }
  }

  TEST_CASE("a NaN keeps its payload and a zero its sign") {
    const uint32_t bits[] = {0x7FC12345u, 0xFFC00001u, 0x80000000u, 0x7F800000u};
    at::Tensor tensor = at::empty({4});
    std::memcpy(tensor.data_ptr(), bits, sizeof(bits));
    check_same_tensor(tensor, round_trip(tensor));
  }

  TEST_CASE("the frame borrows a dense tensor and the decoded tensor borrows the frame") {
    for (const bool channels_last : {false, true}) {
      const at::Tensor tensor = counting({2, 3, 4, 5}, at::kFloat, channels_last);
      const EncodedTensor encoded = encode_tensor(tensor);
      CHECK(static_cast<const void*>(encoded.frame.data()) == tensor.data_ptr());
      const auto decoded = decode_tensor(encoded.descriptor, encoded.frame, kMost);
      CHECK(decoded->data_ptr() == tensor.data_ptr());
    }
  }

  TEST_CASE("the memory outlives the tensor that was encoded and the frame that was decoded") {
    at::Tensor decoded;
    std::weak_ptr<const void> owner;
    {
      EncodedTensor encoded = encode_tensor(counting({64, 64}));
      owner = encoded.frame.owner();
      decoded = *decode_tensor(encoded.descriptor, encoded.frame, kMost);
    }
    CHECK_FALSE(owner.expired());
    check_same_tensor(counting({64, 64}), decoded);
    decoded.reset();
    CHECK(owner.expired());
  }

  TEST_CASE("a view that is not dense is copied, its values and format kept") {
    const at::Tensor columns = counting({4, 6}).slice(1, 1, 4);
    const EncodedTensor encoded = encode_tensor(columns);
    CHECK(encoded.descriptor.bytes == 4 * 3 * 4);
    CHECK(static_cast<const void*>(encoded.frame.data()) != columns.data_ptr());
    check_same_tensor(columns.contiguous(), round_trip(columns));

    const at::Tensor transposed = counting({4, 6}).t();
    check_same_tensor(transposed.contiguous(), round_trip(transposed));

    const at::Tensor channels = counting({2, 6, 3, 3}, at::kFloat, true).slice(1, 0, 3);
    const at::Tensor dense = channels.contiguous(at::MemoryFormat::ChannelsLast);
    check_same_tensor(dense, round_trip(channels));
  }

  TEST_CASE("suggest_memory_format answers the same after the wire, also where dimensions are 1") {
    const std::vector<std::vector<int64_t>> shapes = {{2, 3, 4, 5}, {1, 3, 4, 5}, {2, 1, 4, 5}, {2, 3, 1, 1},
                                                      {1, 3, 1, 1}, {2, 1, 1, 5}, {2, 1, 4, 1}, {2, 3, 1, 5},
                                                      {2, 3, 4, 1}, {1, 1, 4, 5}, {1, 1, 1, 5}, {3, 1, 1, 1},
                                                      {1, 1, 1, 1}, {0, 3, 4, 5}, {2, 0, 4, 5}};
    for (const auto& dims : shapes) {
      for (const bool channels_last : {false, true}) {
        // Strides are given as empty() would, since contiguous() leaves ambiguous shapes as they are.
        const auto format = channels_last ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous;
        const at::Tensor tensor = at::empty(dims, at::TensorOptions().memory_format(format)).fill_(1.5);
        CAPTURE(dims);
        CAPTURE(channels_last);
        const at::Tensor found = round_trip(tensor);
        CHECK((found.suggest_memory_format() == tensor.suggest_memory_format()));
        check_same_tensor(tensor, found);
      }
    }
  }

  TEST_CASE("a one-channel image in channels-last strides stays channels-last") {
    const at::Tensor image = at::empty_strided({2, 1, 4, 5}, {20, 1, 5, 1}).fill_(2.0);
    REQUIRE((image.suggest_memory_format() == at::MemoryFormat::ChannelsLast));
    CHECK((round_trip(image).suggest_memory_format() == at::MemoryFormat::ChannelsLast));
    CHECK((round_trip(counting({2, 1, 4, 5})).suggest_memory_format() == at::MemoryFormat::Contiguous));
  }

  TEST_CASE("a one-pixel, one-channel slice of a channels-last tensor stays channels-last") {
    for (const int64_t examples : {1, 3}) {
      const at::Tensor slice = counting({examples, 4, 1, 1}, at::kFloat, true).slice(1, 2, 3);
      const at::Tensor strided = at::empty_strided({examples, 1, 1, 1}, {4, 1, 4, 4}).copy_(slice);
      CAPTURE(examples);
      REQUIRE((strided.suggest_memory_format() == at::MemoryFormat::ChannelsLast));
      const at::Tensor found = round_trip(strided);
      CHECK((found.suggest_memory_format() == at::MemoryFormat::ChannelsLast));
      CHECK(at::equal(found, slice));
      CHECK((round_trip(found).suggest_memory_format() == at::MemoryFormat::ChannelsLast));
    }
  }

  TEST_CASE("scalars, empty and eight-dimensional tensors travel") {
    for (const at::Tensor& tensor :
         {at::scalar_tensor(2.5), at::empty({0}), at::empty({3, 0, 2}), counting({1, 2, 1, 2, 1, 2, 1, 2})}) {
      check_same_tensor(tensor, round_trip(tensor));
    }
    CHECK(encode_tensor(at::scalar_tensor(2.5)).descriptor.dims.empty());
    CHECK(encode_tensor(at::scalar_tensor(2.5)).descriptor.bytes == 4);
  }

  TEST_CASE("a tensor with a gradient history is detached") {
    const at::Tensor weight = counting({3}).requires_grad_();
    const at::Tensor found = round_trip(weight * 2);
    CHECK_FALSE(found.requires_grad());
    CHECK(at::equal(found, counting({3}) * 2));
  }

  TEST_CASE("a frame at an address its dtype does not suit is copied, an aligned one borrowed") {
    const std::pair<at::ScalarType, TensorDtype> rows[] = {{at::kFloat, TensorDtype::kFloat32},
                                                           {at::kLong, TensorDtype::kInt64},
                                                           {at::kHalf, TensorDtype::kFloat16},
                                                           {at::kByte, TensorDtype::kUint8}};
    for (const auto& [torch_dtype, dtype] : rows) {
      const size_t size = c10::elementSize(torch_dtype);
      for (size_t offset = 0; offset < 16; ++offset) {
        const Frame frame = frame_at(offset, 6 * size);
        const auto tensor =
            decode_tensor({dtype, TensorCodec::kRaw, TensorFormat::kContiguous, {6}, 6 * size}, frame, kMost);
        REQUIRE(tensor.has_value());
        CAPTURE(offset);
        CAPTURE(size);
        CHECK((tensor->data_ptr() == frame.data()) == (offset % size == 0));
        CHECK(reinterpret_cast<uintptr_t>(tensor->data_ptr()) % size == 0);
      }
    }
  }

  TEST_CASE("encode_tensor refuses what cannot travel") {
    CHECK_THROWS_WITH_AS(encode_tensor(at::Tensor()), "an undefined tensor cannot travel",
                         std::invalid_argument);
    CHECK_THROWS_WITH_AS(
        encode_tensor(at::zeros({2}, at::kComplexFloat)),
        "a tensor of dtype ComplexFloat cannot travel; convert it to float, int64, int32, uint8 or "
        "bool",
        std::invalid_argument);
    CHECK_THROWS_WITH_AS(encode_tensor(at::zeros({1, 1, 1, 1, 1, 1, 1, 1, 1})),
                         "a tensor on the wire has at most 8 dimensions, this one has 9",
                         std::invalid_argument);
    CHECK_THROWS_WITH_AS(encode_tensor(at::eye(2).to_sparse()), "a sparse tensor cannot travel",
                         std::invalid_argument);
    CHECK_THROWS_AS(encode_tensor(at::empty({2}, at::TensorOptions().device(at::kMeta))),
                    std::invalid_argument);
  }

  TEST_CASE("decode_tensor refuses values outside the enumerations") {
    const Frame frame = frame_at(0, 8);
    const TensorDescriptor good{TensorDtype::kFloat32, TensorCodec::kRaw, TensorFormat::kContiguous, {2}, 8};
    REQUIRE(decode_tensor(good, frame, kMost).has_value());
    for (const int value : {0, 9, 255}) {
      TensorDescriptor bad = good;
      bad.dtype = static_cast<TensorDtype>(value);
      const Error error = refused(bad, frame);
      CHECK((error.code == ErrorCode::kCorrupt));
      CHECK(error.message == "dtype: expected 1 to 8, found " + std::to_string(value));
    }
    TensorDescriptor bad = good;
    bad.codec = static_cast<TensorCodec>(1);
    CHECK((refused(bad, frame).code == ErrorCode::kProtocol));
    CHECK(refused(bad, frame).message == "codec: expected 0 (raw), found 1");
    bad = good;
    bad.format = static_cast<TensorFormat>(2);
    CHECK(refused(bad, frame).message == "memory format: expected 0 or 1, found 2");
  }

  TEST_CASE("decode_tensor refuses shapes that disagree with their bytes") {
    const Frame frame = frame_at(0, 8);
    TensorDescriptor bad{TensorDtype::kFloat32, TensorCodec::kRaw, TensorFormat::kContiguous, {3}, 8};
    CHECK((refused(bad, frame).code == ErrorCode::kShapeMismatch));
    CHECK(refused(bad, frame).message == "shape 3 of 4-byte elements: expected 12 bytes, found 8");
    bad.dims = {3};
    bad.bytes = 12;
    CHECK(refused(bad, frame).message == "bytes in its frame: expected 12, found 8");
    bad.bytes = 8;
    bad.dims = {-1, -2};
    CHECK(refused(bad, frame).message == "dimension: expected >= 0, found -1");
    bad.dims = {int64_t{1} << 32, int64_t{1} << 32};
    CHECK((refused(bad, frame).code == ErrorCode::kShapeMismatch));
    CHECK(refused(bad, frame).message ==
          "shape 4294967296x4294967296: expected a size that fits in 63 bits, found an overflow");
    // 2^62 elements of 4 bytes are 0 bytes modulo 2^64.
    bad.dims = {int64_t{1} << 62};
    CHECK((refused(bad, frame_at(0, 0)).code == ErrorCode::kShapeMismatch));
    bad.dims = {0, int64_t{1} << 40, int64_t{1} << 40};
    bad.bytes = 0;
    CHECK((refused(bad, frame_at(0, 0)).code == ErrorCode::kShapeMismatch));
    bad.dims = std::vector<int64_t>(9, 1);
    CHECK(refused(bad, frame).message == "dimensions: expected at most 8, found 9");
  }

  TEST_CASE("decode_tensor refuses channels-last for anything but four dimensions above 0") {
    TensorDescriptor bad{TensorDtype::kFloat32, TensorCodec::kRaw, TensorFormat::kChannelsLast, {2}, 8};
    CHECK(refused(bad, frame_at(0, 8)).message ==
          "channels-last shape: expected 4 dimensions above 0, found 2");
    bad.dims = {2, 0, 1, 1};
    bad.bytes = 0;
    CHECK(refused(bad, frame_at(0, 0)).message ==
          "channels-last shape: expected 4 dimensions above 0, found 2x0x1x1");
  }

  TEST_CASE("decode_tensor refuses a tensor above the limit, and a bool that is neither 0 nor 1") {
    const TensorDescriptor floats{
        TensorDtype::kFloat32, TensorCodec::kRaw, TensorFormat::kContiguous, {2}, 8};
    CHECK(decode_tensor(floats, frame_at(0, 8), 8).has_value());
    CHECK((refused(floats, frame_at(0, 8), 7).code == ErrorCode::kTooLarge));
    CHECK(refused(floats, frame_at(0, 8), 7).message == "bytes: expected at most 7, found 8");
    const TensorDescriptor flags{TensorDtype::kBool, TensorCodec::kRaw, TensorFormat::kContiguous, {2}, 2};
    CHECK(decode_tensor(flags, Frame::own(std::string("\1\0", 2)), 8).has_value());
    CHECK(refused(flags, Frame::own(std::string("\1\2", 2))).message ==
          "bool elements: expected 0 or 1, found another value");
  }
}
