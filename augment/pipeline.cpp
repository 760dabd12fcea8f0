#include "tandem/augment/pipeline.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <stdexcept>
#include <utility>

#include "tandem/augment/image_operations.h"
#include "tandem/core/base/random.h"
#include "tandem/core/base/specification.h"
#include "tandem/core/data/data_description.h"

namespace tandem::augment {
namespace {

struct Normalization {
  float mean = 0.0f;
  float std = 1.0f;

  float operator()(float value) const { return (value - mean) / std; }
};

/// The model's input for each stored byte.
using ByteTable = std::array<float, 256>;

ByteTable make_table(const Normalization& normalization) {
  ByteTable table{};
  for (size_t byte = 0; byte < table.size(); ++byte) {
    table[byte] = normalization(static_cast<float>(byte) / 255.0f);
  }
  return table;
}

/// {channels, height, width}; a flat example is one channel of one row.
ImageShape view_as_image(const std::vector<int64_t>& shape) {
  if (shape.size() == 3) return {shape[0], shape[1], shape[2]};
  int64_t elements = 1;
  for (const int64_t size : shape) elements *= size;
  return {1, 1, elements};
}

class Pipeline final : public Augmenter {
 public:
  /// One normalization for each channel.
  Pipeline(std::vector<int64_t> input_shape, std::vector<ImageOperation> operations,
           std::vector<Normalization> normalizations)
      : input_shape_(std::move(input_shape)),
        image_(view_as_image(input_shape_)),
        operations_(std::move(operations)),
        normalizations_(std::move(normalizations)) {
    for (const Normalization& normalization : normalizations_) tables_.push_back(make_table(normalization));
  }

  at::Tensor augment(const at::Tensor& inputs, std::span<const uint64_t> seeds) const override {
    check(inputs);
    if (static_cast<int64_t>(seeds.size()) != inputs.size(0)) {
      throw std::invalid_argument("augment: " + std::to_string(inputs.size(0)) + " examples but " +
                                  std::to_string(seeds.size()) + " seeds");
    }
    if (operations_.empty()) return convert_all(inputs);
    return inputs.scalar_type() == at::kByte ? augment_all<uint8_t>(inputs, seeds)
                                             : augment_all<float>(inputs, seeds);
  }

  at::Tensor prepare(const at::Tensor& inputs) const override {
    check(inputs);
    return convert_all(inputs);
  }

 private:
  int64_t elements() const { return image_.channels * image_.height * image_.width; }

  void check(const at::Tensor& inputs) const {
    const bool type_fits =
        inputs.defined() && (inputs.scalar_type() == at::kByte || inputs.scalar_type() == at::kFloat);
    if (!type_fits || inputs.dim() < 1 || inputs.sizes().slice(1) != at::IntArrayRef(input_shape_)) {
      throw std::invalid_argument("augment: inputs must be uint8 or float32 [n]x" +
                                  shape_to_string(input_shape_) +
                                  (inputs.defined() ? ", got " + shape_to_string(inputs.sizes().vec()) : ""));
    }
  }

  at::Tensor make_output(int64_t n) const {
    std::vector<int64_t> shape{n};
    shape.insert(shape.end(), input_shape_.begin(), input_shape_.end());
    const auto format = channels_last() ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous;
    return at::empty(shape, at::TensorOptions(at::kFloat).memory_format(format));
  }

  bool channels_last() const { return input_shape_.size() == 3 && image_.channels > 1; }

  template <class T>
  at::Tensor augment_all(const at::Tensor& inputs, std::span<const uint64_t> seeds) const {
    const at::Tensor stored = inputs.contiguous();
    at::Tensor output = make_output(stored.size(0));
    const T* from = stored.data_ptr<T>();
    float* to = output.data_ptr<float>();
    std::vector<T> example(static_cast<size_t>(elements()));
    for (const uint64_t seed : seeds) {
      std::copy(from, from + elements(), example.data());
      SplitMix64 random(seed);
      for (const ImageOperation& operation : operations_) apply(operation, image_, random, example);
      convert(example.data(), to);
      from += elements();
      to += elements();
    }
    return output;
  }

  at::Tensor convert_all(const at::Tensor& inputs) const {
    const at::Tensor stored = inputs.contiguous();
    at::Tensor output = make_output(stored.size(0));
    float* to = output.data_ptr<float>();
    for (int64_t i = 0; i < stored.size(0); ++i) {
      if (stored.scalar_type() == at::kByte) {
        convert(stored.data_ptr<uint8_t>() + i * elements(), to + i * elements());
      } else {
        convert(stored.data_ptr<float>() + i * elements(), to + i * elements());
      }
    }
    return output;
  }

  /// Scales and normalizes one example of planes into the output's order.
  template <class T>
  void convert(const T* from, float* to) const {
    const int64_t plane = image_.height * image_.width;
    const int64_t stride = channels_last() ? image_.channels : 1;
    for (int64_t c = 0; c < image_.channels; ++c) {
      float* target = channels_last() ? to + c : to + c * plane;
      convert_plane(from + c * plane, plane, target, stride, static_cast<size_t>(c));
    }
  }

  void convert_plane(const uint8_t* from, int64_t count, float* to, int64_t stride, size_t channel) const {
    const ByteTable& table = tables_[channel];
    for (int64_t i = 0; i < count; ++i) to[i * stride] = table[from[i]];
  }

  void convert_plane(const float* from, int64_t count, float* to, int64_t stride, size_t channel) const {
    const Normalization normalization = normalizations_[channel];
    for (int64_t i = 0; i < count; ++i) to[i * stride] = normalization(from[i]);
  }

  const std::vector<int64_t> input_shape_;
  const ImageShape image_;
  const std::vector<ImageOperation> operations_;
  const std::vector<Normalization> normalizations_;  // one a channel
  std::vector<ByteTable> tables_;                    // one a channel
};

Error mistake(const std::string& text, const std::string& problem) {
  return {ErrorCode::kInvalidArgument, "normalize \"" + text + "\": " + problem};
}

/// "MEAN/STD"
Result<Normalization> parse_pair(const std::string& text) {
  const size_t slash = text.find('/');
  if (slash == std::string::npos) return mistake(text, "expected MEAN/STD, for example 0.286/0.353");
  const std::string what = "normalize \"" + text + "\": ";
  const Result<double> mean = parse_number(what + "the mean", text.substr(0, slash), -1e6, 1e6);
  if (!mean) return mean.error();
  const Result<double> std = parse_number(what + "the standard deviation", text.substr(slash + 1), 0.0, 1e6);
  if (!std) return std.error();
  if (!(static_cast<float>(*std) > 0.0f)) return mistake(text, "the standard deviation must be > 0");
  return Normalization{static_cast<float>(*mean), static_cast<float>(*std)};
}

/// Blanks beside a sign mean nothing.
std::string without_blanks(std::string text) {
  std::erase(text, ' ');
  return text;
}

Result<std::vector<Normalization>> parse_normalize(const std::string& given, int64_t channels) {
  const std::string text = without_blanks(given);
  if (text.empty() || text == "none") return std::vector<Normalization>(static_cast<size_t>(channels));
  std::vector<Normalization> pairs;
  size_t begin = 0;
  while (begin <= text.size()) {
    const size_t end = std::min(text.find(',', begin), text.size());
    const Result<Normalization> pair = parse_pair(text.substr(begin, end - begin));
    if (!pair) return pair.error();
    pairs.push_back(*pair);
    begin = end + 1;
  }
  if (pairs.size() == 1) pairs.resize(static_cast<size_t>(channels), pairs.front());
  if (static_cast<int64_t>(pairs.size()) != channels) {
    return mistake(text, std::to_string(pairs.size()) + " pairs MEAN/STD, expected 1 or one for each of " +
                             std::to_string(channels) + " channels");
  }
  return pairs;
}

Result<void> check_shape(const std::vector<int64_t>& input_shape) {
  const bool positive =
      std::all_of(input_shape.begin(), input_shape.end(), [](int64_t size) { return size > 0; });
  if (!input_shape.empty() && positive) return {};
  return Error{ErrorCode::kInvalidArgument,
               "augment: examples of shape " + shape_to_string(input_shape) + " hold nothing to augment"};
}

}  // namespace

Result<std::unique_ptr<const Augmenter>> build_pipeline(const std::string& operations,
                                                        const std::string& normalize,
                                                        const std::vector<int64_t>& input_shape) {
  if (Result<void> checked = check_shape(input_shape); !checked) return checked.error();
  const ImageShape image = view_as_image(input_shape);
  if (!operations.empty() && operations != "none" && input_shape.size() != 3) {
    return Error{ErrorCode::kInvalidArgument,
                 "augment \"" + operations +
                     "\": needs images (channels x height x width), but the examples are " +
                     shape_to_string(input_shape) + "; use none"};
  }
  Result<std::vector<ImageOperation>> parsed = parse_operations(operations, image);
  if (!parsed) return parsed.error();
  Result<std::vector<Normalization>> normalizations = parse_normalize(normalize, image.channels);
  if (!normalizations) return normalizations.error();
  return std::unique_ptr<const Augmenter>(
      std::make_unique<Pipeline>(input_shape, std::move(*parsed), std::move(*normalizations)));
}

}  // namespace tandem::augment
