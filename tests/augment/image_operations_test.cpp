#include "tandem/augment/image_operations.h"

#include <array>
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "support/test.h"

namespace {

using namespace tandem::augment;
using tandem::ErrorCode;
using tandem::SplitMix64;

const ImageShape kShape{3, 5, 7};

int64_t size_of(const ImageShape& shape) {
  return shape.channels * shape.height * shape.width;
}

/// Values 1, 2, 3, ...: no zero and nothing twice, so every pixel says where it came from.
template <class T>
std::vector<T> numbered(const ImageShape& shape) {
  std::vector<T> pixels;
  for (int64_t i = 0; i < size_of(shape); ++i) pixels.push_back(static_cast<T>(i + 1));
  return pixels;
}

/// What the result must be, pixel by pixel from the definitions.
template <class T>
std::vector<T> naive(const ImageOperation& operation, const ImageShape& shape, uint64_t seed) {
  const std::vector<T> in = numbered<T>(shape);
  std::vector<T> out;
  const auto pixel = [&](int64_t c, int64_t y, int64_t x) -> T {
    if (y < 0 || y >= shape.height || x < 0 || x >= shape.width) return 0;
    return in[static_cast<size_t>((c * shape.height + y) * shape.width + x)];
  };
  for (int64_t c = 0; c < shape.channels; ++c) {
    for (int64_t y = 0; y < shape.height; ++y) {
      for (int64_t x = 0; x < shape.width; ++x) {
        SplitMix64 random(seed);  // the same draws for every pixel
        const auto draw = [&](int64_t bound) {
          return static_cast<int64_t>(random.below(static_cast<uint64_t>(bound)));
        };
        if (const auto* crop = std::get_if<Crop>(&operation)) {
          // Coordinates in the padded picture, whose origin is at (-P, -P).
          const int64_t top = draw(2 * crop->padding + 1);
          const int64_t left = draw(2 * crop->padding + 1);
          out.push_back(pixel(c, y + top - crop->padding, x + left - crop->padding));
        } else if (std::holds_alternative<Flip>(operation)) {
          out.push_back(draw(2) == 1 ? pixel(c, y, shape.width - 1 - x) : pixel(c, y, x));
        } else {
          const int64_t side = std::get<Cutout>(operation).size;
          const int64_t from_y = draw(shape.height) - side / 2;
          const int64_t from_x = draw(shape.width) - side / 2;
          const bool cut = y - from_y >= 0 && y - from_y < side && x - from_x >= 0 && x - from_x < side;
          out.push_back(cut ? T{0} : pixel(c, y, x));
        }
      }
    }
  }
  return out;
}

template <class T>
std::vector<T> applied(const ImageOperation& operation, const ImageShape& shape, uint64_t seed) {
  std::vector<T> pixels = numbered<T>(shape);
  SplitMix64 random(seed);
  apply(operation, shape, random, pixels);
  return pixels;
}

std::string parse_error(const std::string& text) {
  const auto parsed = parse_operations(text, {1, 28, 30});
  REQUIRE_FALSE(parsed.has_value());
  CHECK(parsed.error().code == ErrorCode::kInvalidArgument);
  return parsed.error().message;
}

bool contains(const std::string& text, const std::string& piece) {
  return text.find(piece) != std::string::npos;
}

/// Chi-squared of `counts` against a uniform distribution.
double chi_squared(const std::vector<double>& counts) {
  double total = 0.0;
  for (const double count : counts) total += count;
  const double expected = total / static_cast<double>(counts.size());
  double sum = 0.0;
  for (const double count : counts) sum += (count - expected) * (count - expected) / expected;
  return sum;
}

}  // namespace

TEST_SUITE("augment/image_operations") {
  TEST_CASE("every operation does what its definition says, for bytes and floats") {
    const std::vector<ImageOperation> operations{Crop{1},   Crop{2},   Crop{5},   Flip{},
                                                 Cutout{1}, Cutout{2}, Cutout{3}, Cutout{5}};
    for (const ImageShape& shape : {kShape, ImageShape{1, 6, 6}, ImageShape{2, 7, 5}}) {
      for (size_t which = 0; which < operations.size(); ++which) {
        for (uint64_t seed = 0; seed < 60; ++seed) {
          CAPTURE(which);
          CAPTURE(seed);
          REQUIRE(applied<uint8_t>(operations[which], shape, seed) ==
                  naive<uint8_t>(operations[which], shape, seed));
          REQUIRE(applied<float>(operations[which], shape, seed) ==
                  naive<float>(operations[which], shape, seed));
        }
      }
    }
  }

  TEST_CASE("a worked example: a flip reverses each row") {
    std::vector<uint8_t> pixels{1, 2, 3, 4, 5, 6};
    uint64_t seed = 0;
    while (SplitMix64(seed).below(2) == 0) ++seed;
    SplitMix64 random(seed);
    apply(Flip{}, {1, 2, 3}, random, std::span<uint8_t>(pixels));
    CHECK(pixels == std::vector<uint8_t>{3, 2, 1, 6, 5, 4});
  }

  TEST_CASE("half of the examples are flipped") {
    int flipped = 0;
    for (uint64_t seed = 0; seed < 10000; ++seed) {
      flipped += applied<uint8_t>(Flip{}, {1, 1, 2}, seed)[0] == 2 ? 1 : 0;
    }
    CHECK(std::abs(flipped - 5000) < 250);  // five standard deviations
  }

  TEST_CASE("crop offsets are uniform over the (2P + 1)^2 places") {
    // A single bright pixel in the middle shows the offset.
    const ImageShape shape{1, 5, 5};
    std::vector<double> counts(25, 0.0);
    for (uint64_t seed = 0; seed < 25000; ++seed) {
      std::vector<uint8_t> pixels(25, 0);
      pixels[12] = 1;
      SplitMix64 random(seed);
      apply(Crop{2}, shape, random, std::span<uint8_t>(pixels));
      int places = 0;
      for (size_t i = 0; i < 25; ++i) {
        counts[i] += pixels[i];
        places += pixels[i];
      }
      REQUIRE(places == 1);
    }
    CHECK(chi_squared(counts) < 60.0);  // 24 degrees of freedom: above 60 once in 10^4.4
  }

  TEST_CASE("cutout centres are uniform over the pixels and squares are clipped at the border") {
    const ImageShape shape{1, 4, 6};
    std::vector<double> centres(24, 0.0);
    for (uint64_t seed = 0; seed < 24000; ++seed) {
      const std::vector<float> pixels = applied<float>(Cutout{1}, shape, seed);
      for (size_t i = 0; i < 24; ++i) centres[i] += pixels[i] == 0.0f ? 1.0 : 0.0;
    }
    double total = 0.0;
    for (const double count : centres) total += count;
    CHECK(total == 24000.0);
    CHECK(chi_squared(centres) < 58.0);
    // A square of 3 around a corner covers 4 pixels, around an edge 6, inside 9: counted over all centres.
    std::map<int, int> sizes;
    for (uint64_t seed = 0; seed < 24000; ++seed) {
      int zeros = 0;
      for (const float pixel : applied<float>(Cutout{3}, shape, seed)) zeros += pixel == 0.0f ? 1 : 0;
      ++sizes[zeros];
    }
    CHECK(sizes.size() == 3);
    CHECK(std::abs(sizes[4] / 24000.0 - 4.0 / 24.0) < 0.015);
    CHECK(std::abs(sizes[6] / 24000.0 - 12.0 / 24.0) < 0.02);
    CHECK(std::abs(sizes[9] / 24000.0 - 8.0 / 24.0) < 0.02);
  }

  TEST_CASE("pixels that do not fill the image are the caller's mistake") {
    std::vector<float> pixels(10);
    SplitMix64 random(1);
    CHECK_THROWS_WITH_AS(apply(Flip{}, kShape, random, std::span<float>(pixels)),
                         "augment: 10 pixels do not fill the image", std::invalid_argument);
  }

  TEST_CASE("operations are parsed in order") {
    const auto parsed = parse_operations("crop:2,flip,cutout:8", {1, 28, 28});
    REQUIRE(parsed.has_value());
    REQUIRE(parsed->size() == 3);
    CHECK(std::get<Crop>((*parsed)[0]).padding == 2);
    CHECK(std::holds_alternative<Flip>((*parsed)[1]));
    CHECK(std::get<Cutout>((*parsed)[2]).size == 8);
    CHECK(parse_operations("", kShape)->empty());
    CHECK(parse_operations("none", kShape)->empty());
    CHECK(parse_operations("crop:28,cutout:28", {1, 28, 30}).has_value());
  }

  TEST_CASE("mistakes are quoted with what is known or the range") {
    CHECK(parse_error("rotate:3") ==
          "augment \"rotate:3\": unknown operation \"rotate\"; known are crop:P, flip, cutout:S");
    CHECK(parse_error("Flip") ==
          "augment \"Flip\": unknown operation \"Flip\"; known are crop:P, flip, cutout:S");
    CHECK(parse_error("crop") == "augment \"crop\": crop needs a number of pixels, for example crop:2");
    CHECK(parse_error("flip,crop:2,seed=1") ==
          "augment \"crop:2,seed=1\": unknown parameter \"seed\" of \"crop\"; it takes none");
    CHECK(parse_error("flip:1") == "augment \"flip:1\": flip takes no number");
    CHECK(
        parse_error("flip,,crop:2") ==
        "augment \"flip,,crop:2\": an operation is missing beside a comma; known are crop:P, flip, cutout:S");
    CHECK(contains(parse_error("flip,"), "missing beside a comma"));
    for (const std::string text :
         {"crop:0", "crop:29", "crop:", "crop:2x", "crop:-1", "cutout:0", "cutout:29"}) {
      CAPTURE(text);
      CHECK(contains(parse_error(text), "augment \"" + text + "\": the number of pixels"));
      CHECK(contains(parse_error(text), "28"));
    }
  }
}
