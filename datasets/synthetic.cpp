#include "tandem/datasets/synthetic.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tandem/core/base/random.h"

namespace tandem::datasets {
namespace {

// Everything here is integer arithmetic: libm and fused multiply-add differ between machines, and devices
// that share a specification must see the same bytes.

constexpr int64_t kMaxExamples = 10'000'000;
constexpr uint64_t kMaxBytes = uint64_t{4} << 30;
constexpr int64_t kUnit = 16;  // sub-pixel positions

// First element of the seed path.
constexpr uint64_t kPrototypeStream = 0;
constexpr uint64_t kTrainStream = 1;
constexpr uint64_t kTestStream = 2;

SplitMix64 stream(int64_t seed, uint64_t which, int64_t number) {
  return SplitMix64(derive_seed(static_cast<uint64_t>(seed), RandomPurpose::kSynthetic,
                                {which, static_cast<uint64_t>(number)}));
}

uint64_t stream_of(Split split) {
  return split == Split::kTrain ? kTrainStream : kTestStream;
}

int64_t between(SplitMix64& random, int64_t low, int64_t high) {
  return low + static_cast<int64_t>(random.below(static_cast<uint64_t>(high - low + 1)));
}

/// Nearly normal (twelve uniforms summed), mean 0, standard deviation 2^16.
int64_t nearly_normal(SplitMix64& random) {
  int64_t sum = 0;
  for (int draw = 0; draw < 3; ++draw) {
    const uint64_t bits = random();
    for (int shift = 0; shift < 64; shift += 16) sum += static_cast<int64_t>(bits >> shift & 0xFFFF);
  }
  return sum - 6 * 0xFFFF;
}

/// Pixel noise (eight bytes summed): mean 0, standard deviation `deviation`.
int64_t pixel_noise(SplitMix64& random, int64_t deviation) {
  const uint64_t bits = random();
  int64_t sum = 0;
  for (int shift = 0; shift < 64; shift += 8) sum += static_cast<int64_t>(bits >> shift & 0xFF);
  return (sum - 4 * 0xFF) * deviation / 209;  // 209 = sqrt(8 (256^2 - 1) / 12)
}

/// A picture of one example, values of any size, [channels][size][size].
struct Canvas {
  int64_t channels;
  int64_t size;
  std::vector<int64_t> values;

  Canvas(int64_t channels_in, int64_t size_in)
      : channels(channels_in),
        size(size_in),
        values(static_cast<size_t>(channels_in * size_in * size_in), 0) {}

  int64_t& at(int64_t c, int64_t y, int64_t x) {
    return values[static_cast<size_t>((c * size + y) * size + x)];
  }
  int64_t at(int64_t c, int64_t y, int64_t x) const {
    return values[static_cast<size_t>((c * size + y) * size + x)];
  }
};

/// Adds a smooth spot, height (1 - d^2/r^2)^2 within radius r, of a different height in each channel.
void add_blob(Canvas& canvas, SplitMix64& random, int64_t lowest, int64_t highest) {
  const int64_t side = canvas.size * kUnit;
  const int64_t centre_y = between(random, side / 5, side * 4 / 5);
  const int64_t centre_x = between(random, side / 5, side * 4 / 5);
  const int64_t radius = between(random, side / 8, side / 5);
  const int64_t radius2 = radius * radius;
  for (int64_t c = 0; c < canvas.channels; ++c) {
    const int64_t height = between(random, lowest, highest);
    for (int64_t y = 0; y < canvas.size; ++y) {
      for (int64_t x = 0; x < canvas.size; ++x) {
        const int64_t dy = y * kUnit + kUnit / 2 - centre_y;
        const int64_t dx = x * kUnit + kUnit / 2 - centre_x;
        const int64_t inside = (radius2 - dy * dy - dx * dx) * 256 / radius2;
        if (inside > 0) canvas.at(c, y, x) += height * inside * inside / 65536;
      }
    }
  }
}

Canvas draw_prototype(const SyntheticImages& options, int64_t label) {
  SplitMix64 random = stream(options.seed, kPrototypeStream, label);
  Canvas canvas(options.channels, options.size);
  for (int blob = 0; blob < 4; ++blob) add_blob(canvas, random, 90, 220);
  return canvas;
}

void draw_example(const Canvas& prototype, SplitMix64 random, uint8_t* pixels) {
  const int64_t size = prototype.size;
  const int64_t reach = size / 5;
  const int64_t down = between(random, -reach, reach);
  const int64_t right = between(random, -reach, reach);
  const int64_t contrast = between(random, 140, 256);
  Canvas stray(prototype.channels, size);
  add_blob(stray, random, 60, 160);
  for (int64_t c = 0; c < prototype.channels; ++c) {
    for (int64_t y = 0; y < size; ++y) {
      for (int64_t x = 0; x < size; ++x) {
        const int64_t from_y = y - down;
        const int64_t from_x = x - right;
        const bool inside = from_y >= 0 && from_y < size && from_x >= 0 && from_x < size;
        const int64_t shown = inside ? prototype.at(c, from_y, from_x) * contrast / 256 : 0;
        const int64_t value = 30 + shown + stray.at(c, y, x) + pixel_noise(random, 25);
        *pixels++ = static_cast<uint8_t>(std::clamp<int64_t>(value, 0, 255));
      }
    }
  }
}

at::Tensor cyclic_labels(int64_t examples, int64_t classes) {
  at::Tensor labels = at::empty({examples}, at::kLong);
  int64_t* values = labels.data_ptr<int64_t>();
  for (int64_t i = 0; i < examples; ++i) values[i] = i % classes;
  return labels;
}

/// Reads the parameters that are given into their variables.
class Parameters {
 public:
  explicit Parameters(const Specification& specification) : specification_(specification) {}

  void take(const std::string& name, int64_t& value, int64_t low, int64_t high) {
    const auto found = specification_.parameters.find(name);
    known_.push_back(name);
    if (found == specification_.parameters.end() || error_) return;
    const Result<int64_t> parsed =
        parse_integer("synthetic:" + specification_.argument + "," + name, found->second, low, high);
    if (parsed) {
      value = *parsed;
    } else {
      error_ = parsed.error();
    }
  }

  Result<void> finish() const {
    if (Result<void> checked = check_parameters(specification_, known_); !checked) return checked;
    return error_ ? Result<void>(*error_) : Result<void>();
  }

 private:
  const Specification& specification_;
  std::vector<std::string> known_;
  std::optional<Error> error_;
};

Result<void> check_bytes(int64_t examples, int64_t bytes_per_example) {
  const uint64_t bytes = static_cast<uint64_t>(examples) * static_cast<uint64_t>(bytes_per_example);
  if (bytes <= kMaxBytes) return {};
  return Error{ErrorCode::kTooLarge, "synthetic: " + std::to_string(examples) + " examples of " +
                                         std::to_string(bytes_per_example) + " bytes exceed the limit of " +
                                         std::to_string(kMaxBytes) + " bytes"};
}

using Made = Result<std::shared_ptr<const TensorDataset>>;

Made open_images(const Specification& specification, Split split) {
  SyntheticImages options;
  Parameters parameters(specification);
  parameters.take("examples", options.examples, 1, kMaxExamples);
  parameters.take("test-examples", options.test_examples, 1, kMaxExamples);
  parameters.take("classes", options.classes, 2, 1000);
  parameters.take("size", options.size, 8, 256);
  parameters.take("channels", options.channels, 1, 16);
  parameters.take("seed", options.seed, 0, INT64_MAX);
  if (Result<void> read = parameters.finish(); !read) return read.error();
  const int64_t bytes = options.channels * options.size * options.size;
  if (Result<void> fits = check_bytes(std::max(options.examples, options.test_examples), bytes); !fits) {
    return fits.error();
  }
  return make_synthetic(options, split);
}

Made open_blobs(const Specification& specification, Split split) {
  SyntheticBlobs options;
  Parameters parameters(specification);
  parameters.take("examples", options.examples, 1, kMaxExamples);
  parameters.take("test-examples", options.test_examples, 1, kMaxExamples);
  parameters.take("classes", options.classes, 2, 1000);
  parameters.take("features", options.features, 1, 100'000);
  parameters.take("seed", options.seed, 0, INT64_MAX);
  if (Result<void> read = parameters.finish(); !read) return read.error();
  const int64_t bytes = options.features * int64_t{sizeof(float)};
  if (Result<void> fits = check_bytes(std::max(options.examples, options.test_examples), bytes); !fits) {
    return fits.error();
  }
  return make_synthetic(options, split);
}

}  // namespace

std::shared_ptr<const TensorDataset> make_synthetic(const SyntheticImages& options, Split split) {
  std::vector<Canvas> prototypes;
  for (int64_t label = 0; label < options.classes; ++label)
    prototypes.push_back(draw_prototype(options, label));
  const int64_t examples = split == Split::kTrain ? options.examples : options.test_examples;
  at::Tensor images = at::empty({examples, options.channels, options.size, options.size}, at::kByte);
  const int64_t bytes = options.channels * options.size * options.size;
  for (int64_t i = 0; i < examples; ++i) {
    draw_example(prototypes[static_cast<size_t>(i % options.classes)],
                 stream(options.seed, stream_of(split), i), images.data_ptr<uint8_t>() + i * bytes);
  }
  return std::make_shared<TensorDataset>(images, cyclic_labels(examples, options.classes), options.classes);
}

std::shared_ptr<const TensorDataset> make_synthetic(const SyntheticBlobs& options, Split split) {
  std::vector<std::vector<int64_t>> centres(static_cast<size_t>(options.classes));
  for (int64_t label = 0; label < options.classes; ++label) {
    SplitMix64 random = stream(options.seed, kPrototypeStream, label);
    for (int64_t f = 0; f < options.features; ++f) {
      centres[static_cast<size_t>(label)].push_back(2 * nearly_normal(random));
    }
  }
  const int64_t examples = split == Split::kTrain ? options.examples : options.test_examples;
  at::Tensor points = at::empty({examples, options.features}, at::kFloat);
  float* value = points.data_ptr<float>();
  for (int64_t i = 0; i < examples; ++i) {
    SplitMix64 random = stream(options.seed, stream_of(split), i);
    for (const int64_t centre : centres[static_cast<size_t>(i % options.classes)]) {
      // At most 18 * 2^16 in magnitude, so both the conversion and the scaling are exact.
      *value++ = static_cast<float>(centre + nearly_normal(random)) * 0x1p-16f;
    }
  }
  return std::make_shared<TensorDataset>(points, cyclic_labels(examples, options.classes), options.classes);
}

Result<std::shared_ptr<const TensorDataset>> open_synthetic(const Specification& specification, Split split) {
  if (specification.argument == "images") return open_images(specification, split);
  if (specification.argument == "blobs") return open_blobs(specification, split);
  const std::optional<std::string> nearest = nearest_name(specification.argument, {"images", "blobs"});
  return Error{ErrorCode::kInvalidArgument, "synthetic:" + specification.argument + " is unknown; " +
                                                (nearest ? "did you mean synthetic:" + *nearest + "? " : "") +
                                                "Known are synthetic:images and synthetic:blobs"};
}

}  // namespace tandem::datasets
