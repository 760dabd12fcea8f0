#include "tandem/augment/image_operations.h"

#include <algorithm>
#include <cstdlib>
#include <stdexcept>
#include <utility>

#include "tandem/core/base/specification.h"

namespace tandem::augment {
namespace {

constexpr const char* kKnown = "known are crop:P, flip, cutout:S";

Error mistake(const std::string& text, const std::string& problem) {
  return {ErrorCode::kInvalidArgument, "augment \"" + text + "\": " + problem};
}

Result<ImageOperation> parse_operation(const std::string& text, const ImageShape& shape) {
  if (text == "flip") return ImageOperation(Flip{});
  const Result<std::string> name = specification_name(text);
  if (!name) return mistake(text, name.error().message);
  if (*name == "flip") return mistake(text, "flip takes no number");
  if (*name != "crop" && *name != "cutout") {
    return mistake(text, "unknown operation \"" + *name + "\"; " + kKnown);
  }
  if (text.find(':') == std::string::npos) {
    return mistake(text, *name + " needs a number of pixels, for example " + *name + ":2");
  }
  const Result<Specification> parsed = parse_specification(text, Argument::kTaken);
  const Result<void> checked = parsed ? check_parameters(*parsed, {}) : Result<void>(parsed.error());
  if (!checked) return mistake(text, checked.error().message);
  const Result<int64_t> pixels =
      parse_integer("augment \"" + text + "\": the number of pixels", parsed->argument, 1, shape.side());
  if (!pixels) return pixels.error();
  return *name == "crop" ? ImageOperation(Crop{*pixels}) : ImageOperation(Cutout{*pixels});
}

int64_t draw(SplitMix64& random, int64_t bound) {
  return static_cast<int64_t>(random.below(static_cast<uint64_t>(bound)));
}

/// row[x] = row[x + shift] where that exists, else zero. `from` may be `row` itself.
template <class T>
void copy_shifted(const T* from, T* row, int64_t width, int64_t shift) {
  const int64_t kept = std::max<int64_t>(0, width - std::abs(shift));
  if (shift >= 0) {
    std::copy(from + (width - kept), from + width, row);
    std::fill(row + kept, row + width, T{0});
  } else {
    std::copy_backward(from, from + kept, row + width);
    std::fill(row, row + (width - kept), T{0});
  }
}

/// plane[y][x] = plane[y + down][x + right] where that exists, else zero; rows in the order in which each
/// is read before it is overwritten.
template <class T>
void shift_plane(T* plane, const ImageShape& shape, int64_t down, int64_t right) {
  for (int64_t step = 0; step < shape.height; ++step) {
    const int64_t y = down >= 0 ? step : shape.height - 1 - step;
    const int64_t from = y + down;
    T* row = plane + y * shape.width;
    if (from < 0 || from >= shape.height) {
      std::fill(row, row + shape.width, T{0});
    } else {
      copy_shifted(plane + from * shape.width, row, shape.width, right);
    }
  }
}

template <class T>
void apply_to(const Crop& crop, const ImageShape& shape, SplitMix64& random, T* pixels) {
  const int64_t down = draw(random, 2 * crop.padding + 1) - crop.padding;
  const int64_t right = draw(random, 2 * crop.padding + 1) - crop.padding;
  for (int64_t c = 0; c < shape.channels; ++c) {
    shift_plane(pixels + c * shape.height * shape.width, shape, down, right);
  }
}

template <class T>
void apply_to(const Flip&, const ImageShape& shape, SplitMix64& random, T* pixels) {
  if (draw(random, 2) == 0) return;
  for (int64_t row = 0; row < shape.channels * shape.height; ++row) {
    std::reverse(pixels + row * shape.width, pixels + (row + 1) * shape.width);
  }
}

template <class T>
void apply_to(const Cutout& cutout, const ImageShape& shape, SplitMix64& random, T* pixels) {
  const int64_t top = draw(random, shape.height) - cutout.size / 2;
  const int64_t left = draw(random, shape.width) - cutout.size / 2;
  const int64_t first_row = std::max<int64_t>(top, 0);
  const int64_t end_row = std::min(top + cutout.size, shape.height);
  const int64_t first = std::max<int64_t>(left, 0);
  const int64_t end = std::min(left + cutout.size, shape.width);
  for (int64_t c = 0; c < shape.channels; ++c) {
    for (int64_t y = first_row; y < end_row; ++y) {
      T* row = pixels + (c * shape.height + y) * shape.width;
      std::fill(row + first, row + std::max(first, end), T{0});
    }
  }
}

template <class T>
void apply_any(const ImageOperation& operation, const ImageShape& shape, SplitMix64& random,
               std::span<T> pixels) {
  if (static_cast<int64_t>(pixels.size()) != shape.channels * shape.height * shape.width) {
    throw std::invalid_argument("augment: " + std::to_string(pixels.size()) +
                                " pixels do not fill the image");
  }
  std::visit([&](const auto& kind) { apply_to(kind, shape, random, pixels.data()); }, operation);
}

}  // namespace

Result<std::vector<ImageOperation>> parse_operations(const std::string& text, const ImageShape& shape) {
  std::vector<ImageOperation> operations;
  if (text.empty() || text == "none") return operations;
  for (const std::string& part : split_specifications(text)) {
    if (part.empty()) return mistake(text, std::string("an operation is missing beside a comma; ") + kKnown);
    Result<ImageOperation> operation = parse_operation(part, shape);
    if (!operation) return operation.error();
    operations.push_back(*operation);
  }
  return operations;
}

void apply(const ImageOperation& operation, const ImageShape& shape, SplitMix64& random,
           std::span<uint8_t> pixels) {
  apply_any(operation, shape, random, pixels);
}

void apply(const ImageOperation& operation, const ImageShape& shape, SplitMix64& random,
           std::span<float> pixels) {
  apply_any(operation, shape, random, pixels);
}

}  // namespace tandem::augment
