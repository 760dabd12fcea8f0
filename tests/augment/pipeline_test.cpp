#include "tandem/augment/pipeline.h"

#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "support/test.h"
#include "tandem/augment/image_operations.h"

namespace {

using tandem::Augmenter;
using tandem::ErrorCode;
using tandem::SplitMix64;
using tandem::augment::build_pipeline;

std::unique_ptr<const Augmenter> build(const std::string& operations, const std::string& normalize,
                                       const std::vector<int64_t>& shape) {
  auto built = build_pipeline(operations, normalize, shape);
  REQUIRE_MESSAGE(built.has_value(), (built ? "" : built.error().message));
  return std::move(*built);
}

std::string build_error(const std::string& operations, const std::string& normalize,
                        const std::vector<int64_t>& shape) {
  const auto built = build_pipeline(operations, normalize, shape);
  REQUIRE_FALSE(built.has_value());
  CHECK(built.error().code == ErrorCode::kInvalidArgument);
  return built.error().message;
}

bool contains(const std::string& text, const std::string& piece) {
  return text.find(piece) != std::string::npos;
}

at::Tensor random_bytes(std::vector<int64_t> shape) {
  at::Tensor bytes = torch::empty(shape, torch::kByte);
  SplitMix64 random(3);
  for (int64_t i = 0; i < bytes.numel(); ++i)
    bytes.data_ptr<uint8_t>()[i] = static_cast<uint8_t>(random.below(256));
  return bytes;
}

std::vector<uint64_t> seeds(size_t n) {
  std::vector<uint64_t> values(n);
  std::iota(values.begin(), values.end(), uint64_t{1000});
  return values;
}

constexpr const char* kAll = "crop:2,flip,cutout:4";
constexpr const char* kColours = "0.5/0.25,0.4/0.2,0.3/0.5";

}  // namespace

TEST_SUITE("augment/pipeline") {
  TEST_CASE("prepare scales bytes to 0..1 and normalises each channel") {
    at::Tensor bytes = torch::zeros({1, 3, 1, 2}, torch::kByte);
    bytes[0][0][0][1] = 255;
    bytes[0][1][0][0] = 51;
    const at::Tensor out = build("none", kColours, {3, 1, 2})->prepare(bytes);
    const at::Tensor expected = torch::tensor({-2.0f, 2.0f, -1.0f, -2.0f, -0.6f, -0.6f}).view({1, 3, 1, 2});
    CHECK((out.scalar_type() == at::kFloat));
    CHECK(torch::allclose(out, expected, 1e-6, 1e-6));
    const at::Tensor plain = build("", "none", {3, 1, 2})->prepare(bytes);
    CHECK(plain[0][0][0][1].item<float>() == 1.0f);
    CHECK(plain[0][1][0][0].item<float>() == 0.2f);
  }

  TEST_CASE("prepare equals (x / 255 - mean) / std in every bit, for every byte") {
    const at::Tensor bytes = torch::arange(256, torch::kByte).view({1, 1, 16, 16});
    const at::Tensor out = build("", "0.286/0.353", {1, 16, 16})->prepare(bytes);
    for (int byte = 0; byte < 256; ++byte) {
      const float expected = (static_cast<float>(byte) / 255.0f - 0.286f) / 0.353f;
      CHECK(out.data_ptr<float>()[byte] == expected);
    }
  }

  TEST_CASE("float inputs are taken as they are, then normalised") {
    const at::Tensor values = torch::tensor({-3.0f, 0.0f, 0.5f, 300.0f}).view({2, 2});
    CHECK(torch::equal(build("", "", {2})->prepare(values), values));
    CHECK(torch::equal(build("", "1/2", {2})->prepare(values),
                       torch::tensor({-2.0f, -0.5f, -0.25f, 149.5f}).view({2, 2})));
  }

  TEST_CASE(
      "several channels come out channels-last, one channel or flat contiguous, values unchanged by it") {
    const at::Tensor bytes = random_bytes({4, 3, 6, 5});
    const at::Tensor out = build("", kColours, {3, 6, 5})->prepare(bytes);
    CHECK(out.is_contiguous(at::MemoryFormat::ChannelsLast));
    CHECK_FALSE(out.is_contiguous());
    const at::Tensor mean = torch::tensor({0.5f, 0.4f, 0.3f}).view({1, 3, 1, 1});
    const at::Tensor std = torch::tensor({0.25f, 0.2f, 0.5f}).view({1, 3, 1, 1});
    CHECK(torch::allclose(out, (bytes.to(torch::kFloat) / 255 - mean) / std, 1e-6, 1e-6));
    CHECK(build("", "", {1, 6, 5})->prepare(random_bytes({4, 1, 6, 5})).is_contiguous());
    const at::Tensor floats = torch::rand({2, 3, 6, 5});
    const at::Tensor same = build("", "", {3, 6, 5})->prepare(floats);
    CHECK(torch::equal(same, floats));
    CHECK(same.is_contiguous(at::MemoryFormat::ChannelsLast));
  }

  TEST_CASE("augment applies the operations in order from the example's seed, then prepares") {
    const at::Tensor bytes = random_bytes({20, 3, 8, 8});
    const auto pipeline = build(kAll, kColours, {3, 8, 8});
    const at::Tensor out = pipeline->augment(bytes, seeds(20));
    const auto operations = tandem::augment::parse_operations(kAll, {3, 8, 8});
    at::Tensor changed = bytes.clone();
    for (int64_t i = 0; i < 20; ++i) {
      SplitMix64 random(seeds(20)[static_cast<size_t>(i)]);
      const std::span<uint8_t> pixels(changed[i].data_ptr<uint8_t>(), 192);
      for (const auto& operation : *operations) tandem::augment::apply(operation, {3, 8, 8}, random, pixels);
    }
    CHECK(torch::equal(out, pipeline->prepare(changed)));
    CHECK_FALSE(torch::equal(out, pipeline->prepare(bytes)));
  }

  TEST_CASE("what is cut out is the stored zero, not the normalised one") {
    const at::Tensor out = build("cutout:4", "0.5/0.25", {1, 4, 4})
                               ->augment(torch::full({9, 1, 4, 4}, 255, torch::kByte), seeds(9));
    CHECK(out.min().item<float>() == -2.0f);
    CHECK(out.max().item<float>() == 2.0f);
  }

  TEST_CASE("floats in 0..1 are augmented like the bytes they came from") {
    const at::Tensor bytes = random_bytes({10, 2, 9, 9});
    const auto pipeline = build("crop:3,flip,cutout:5", "0.5/0.25", {2, 9, 9});
    const at::Tensor from_bytes = pipeline->augment(bytes, seeds(10));
    const at::Tensor from_floats = pipeline->augment(bytes.to(torch::kFloat) / 255, seeds(10));
    CHECK(torch::allclose(from_bytes, from_floats, 1e-6, 1e-6));
  }

  TEST_CASE("the result does not depend on how examples are batched") {
    const at::Tensor bytes = random_bytes({12, 3, 8, 8});
    const auto pipeline = build(kAll, kColours, {3, 8, 8});
    const at::Tensor together = pipeline->augment(bytes, seeds(12));
    for (int64_t i = 0; i < 12; ++i) {
      const uint64_t seed = seeds(12)[static_cast<size_t>(i)];
      CHECK(torch::equal(pipeline->augment(bytes.slice(0, i, i + 1), std::span(&seed, 1)),
                         together.slice(0, i, i + 1)));
    }
  }

  TEST_CASE("the same seeds give the same bytes, other seeds others, and the input stays as it was") {
    const at::Tensor bytes = random_bytes({12, 1, 8, 8});
    const at::Tensor before = bytes.clone();
    const auto pipeline = build(kAll, "", {1, 8, 8});
    const at::Tensor first = pipeline->augment(bytes, seeds(12));
    CHECK(torch::equal(first, pipeline->augment(bytes, seeds(12))));
    CHECK_FALSE(torch::equal(first, pipeline->augment(bytes, std::vector<uint64_t>(12, 5))));
    CHECK(torch::equal(bytes, before));
  }

  TEST_CASE("the result is fresh memory even where nothing changes") {
    const at::Tensor values = torch::ones({2, 3});
    const auto pipeline = build("", "", {3});
    pipeline->prepare(values).fill_(5);
    pipeline->augment(values, seeds(2)).fill_(5);
    CHECK(torch::equal(values, torch::ones({2, 3})));
  }

  TEST_CASE("strided inputs are read by their values") {
    const at::Tensor bytes = random_bytes({6, 3, 8, 8});
    const auto pipeline = build(kAll, kColours, {3, 8, 8});
    const at::Tensor strided = bytes.contiguous(at::MemoryFormat::ChannelsLast);
    CHECK(torch::equal(pipeline->augment(strided, seeds(6)), pipeline->augment(bytes, seeds(6))));
  }

  TEST_CASE("an empty batch gives an empty batch") {
    const auto pipeline = build(kAll, kColours, {3, 8, 8});
    CHECK(pipeline->augment(torch::zeros({0, 3, 8, 8}, torch::kByte), {}).sizes() ==
          at::IntArrayRef({0, 3, 8, 8}));
    CHECK(pipeline->prepare(torch::zeros({0, 3, 8, 8})).sizes() == at::IntArrayRef({0, 3, 8, 8}));
  }

  TEST_CASE("inputs and seeds that do not fit are the caller's mistake") {
    const auto pipeline = build("flip", "", {1, 4, 4});
    CHECK_THROWS_WITH_AS(pipeline->augment(torch::zeros({2, 1, 4, 4}), seeds(3)),
                         "augment: 2 examples but 3 seeds", std::invalid_argument);
    CHECK_THROWS_WITH_AS(pipeline->prepare(torch::zeros({2, 1, 4, 5})),
                         "augment: inputs must be uint8 or float32 [n]x1x4x4, got 2x1x4x5",
                         std::invalid_argument);
    CHECK_THROWS_AS(pipeline->prepare(torch::zeros({2, 1, 4, 4}, torch::kDouble)), std::invalid_argument);
    CHECK_THROWS_AS(pipeline->prepare(at::Tensor()), std::invalid_argument);
    CHECK_THROWS_AS(pipeline->prepare(torch::zeros({})), std::invalid_argument);
  }

  TEST_CASE("one pair serves all channels; any other number must be one a channel") {
    const at::Tensor bytes = random_bytes({2, 3, 4, 4});
    CHECK(torch::equal(build("", "0.5/0.25", {3, 4, 4})->prepare(bytes),
                       build("", "0.5/0.25,0.5/0.25,0.5/0.25", {3, 4, 4})->prepare(bytes)));
    CHECK(build_error("", "0.5/0.25,0.5/0.25", {3, 4, 4}) ==
          "normalize \"0.5/0.25,0.5/0.25\": 2 pairs MEAN/STD, expected 1 or one for each of 3 channels");
    CHECK(build_error("", "0/1,0/1", {10}) ==
          "normalize \"0/1,0/1\": 2 pairs MEAN/STD, expected 1 or one for each of 1 channels");
  }

  TEST_CASE("values of normalize are checked and quoted") {
    CHECK(build_error("", "0.5", {1, 4, 4}) ==
          "normalize \"0.5\": expected MEAN/STD, for example 0.286/0.353");
    CHECK(build_error("", "0.5/0", {1, 4, 4}) == "normalize \"0.5/0\": the standard deviation must be > 0");
    CHECK(build_error("", "0.5/1e-60", {1, 4, 4}) ==
          "normalize \"0.5/1e-60\": the standard deviation must be > 0");
    CHECK(contains(build_error("", "x/1", {1, 4, 4}), "normalize \"x/1\": the mean"));
    CHECK(contains(build_error("", "nan/1", {1, 4, 4}), "normalize \"nan/1\": the mean"));
    CHECK(contains(build_error("", "0/-1", {1, 4, 4}), "normalize \"0/-1\": the standard deviation"));
    CHECK(contains(build_error("", "0/inf", {1, 4, 4}), "normalize \"0/inf\": the standard deviation"));
    CHECK(contains(build_error("", "0/1,", {1, 4, 4}), "normalize \"\": expected MEAN/STD"));
  }

  TEST_CASE("operations on flat examples are refused with the reason") {
    CHECK(build_error("flip", "", {16}) ==
          "augment \"flip\": needs images (channels x height x width), but the examples are 16; use none");
    CHECK(build_pipeline("none", "0/1", {16}).has_value());
    CHECK(build_error("", "", {}) == "augment: examples of shape scalar hold nothing to augment");
    CHECK(build_error("", "", {3, 0, 4}) == "augment: examples of shape 3x0x4 hold nothing to augment");
  }
}
