#include <torch/torch.h>

#include <array>
#include <numeric>
#include <utility>

#include "tandem/core/base/specification.h"
#include "tandem/core/base/text.h"
#include "tandem/core/data/data_description.h"
#include "tandem/core/model/model_detail.h"

namespace tandem {
namespace {

using Shape = std::vector<int64_t>;
using Blocks = std::vector<BlockDefinition>;

constexpr int64_t kMaxSize = 65536;
constexpr int64_t kMaxLayerWeights = int64_t{1} << 30;

Error invalid(std::string message) {
  return {ErrorCode::kInvalidArgument, std::move(message)};
}

int64_t num_values(const Shape& shape) {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
}

torch::nn::ReLU relu() {
  return torch::nn::ReLU(torch::nn::ReLUOptions().inplace(true));
}

/// Conv models need {C, H, W} with both sides at least `smallest_side`.
Result<void> check_image(const std::string& model, const Shape& input, int64_t smallest_side) {
  if (input.size() != 3) {
    return invalid("model " + model + " needs images {C,H,W}, got examples of shape " +
                   shape_to_string(input));
  }
  if (input[1] < smallest_side || input[2] < smallest_side) {
    const std::string side = std::to_string(smallest_side);
    return invalid("model " + model + " needs images of at least " + side + "x" + side +
                   " pixels, got examples of shape " + shape_to_string(input));
  }
  return {};
}

Result<void> check_layer_size(const std::string& block, int64_t inputs, int64_t outputs) {
  if (inputs <= kMaxLayerWeights / outputs) return {};
  return invalid("block " + block + " would hold " + std::to_string(inputs) + " x " +
                 std::to_string(outputs) + " weights, more than " + std::to_string(kMaxLayerWeights));
}

/// Conv2d, ReLU, MaxPool2d(2).
BlockDefinition conv_block(const std::string& name, const Shape& input, int64_t channels, int64_t kernel,
                           std::array<int64_t, 2> padding) {
  const auto pooled = [&](int64_t side, int64_t pad) { return (side + 2 * pad - kernel + 1) / 2; };
  const Shape output{channels, pooled(input[1], padding[0]), pooled(input[2], padding[1])};
  const int64_t in_channels = input[0];
  const auto make = [=] {
    const auto options = torch::nn::Conv2dOptions(in_channels, channels, kernel)
                             .padding(torch::ExpandingArray<2>({padding[0], padding[1]}));
    return torch::nn::Sequential(torch::nn::Conv2d(options), relu(), torch::nn::MaxPool2d(2));
  };
  return {{name, output}, false, make};
}

enum class Activation { kNone, kRelu };

/// Linear and, unless it is the last, ReLU; preceded by Flatten where the input has a shape.
BlockDefinition linear_block(const std::string& name, const Shape& input, int64_t outputs,
                             Activation activation) {
  const bool flatten = input.size() > 1;
  const int64_t inputs = num_values(input);
  const auto make = [=] {
    torch::nn::Sequential block;
    if (flatten) block->push_back(torch::nn::Flatten());
    block->push_back(torch::nn::Linear(inputs, outputs));
    if (activation == Activation::kRelu) block->push_back(relu());
    return block;
  };
  return {{name, {outputs}}, false, make};
}

/// Adds a block a width, named fc1, fc2, ...; the last is linear.
Result<void> append_linear_blocks(Blocks& blocks, Shape input, const std::vector<int64_t>& widths) {
  for (size_t i = 0; i < widths.size(); ++i) {
    const std::string name = "fc" + std::to_string(i + 1);
    if (auto checked = check_layer_size(name, num_values(input), widths[i]); !checked) return checked;
    const auto activation = i + 1 < widths.size() ? Activation::kRelu : Activation::kNone;
    blocks.push_back(linear_block(name, input, widths[i], activation));
    input = {widths[i]};
  }
  return {};
}

Result<std::vector<int64_t>> parse_widths(const std::string& text) {
  constexpr size_t kMaxLayers = 64;
  std::vector<int64_t> widths;
  for (const std::string_view part : split(text, '-')) {
    const auto width = parse_integer("mlp:hidden", std::string(part), 1, kMaxSize);
    if (!width) return width.error();
    widths.push_back(*width);
    if (widths.size() > kMaxLayers) {
      return invalid("mlp:hidden must name at most " + std::to_string(kMaxLayers) + " layers, got " + text);
    }
  }
  return widths;
}

Result<Blocks> mlp(const Specification& specification, const Shape& input, int64_t num_classes) {
  const auto hidden = specification.parameters.find("hidden");
  auto widths = parse_widths(hidden == specification.parameters.end() ? "256-128" : hidden->second);
  if (!widths) return widths.error();
  widths->push_back(num_classes);
  Blocks blocks;
  if (auto added = append_linear_blocks(blocks, input, *widths); !added) return added.error();
  return blocks;
}

Result<Blocks> lenet5(const Specification&, const Shape& input, int64_t num_classes) {
  if (auto checked = check_image("lenet5", input, 4); !checked) return checked.error();
  // LeCun et al. 1998 feed 32x32; smaller images are padded, so that 28x28 gives the same maps.
  const auto pad_first = [](int64_t side) -> int64_t { return side < 32 ? 2 : 0; };
  const auto pad_second = [](int64_t side) -> int64_t { return side < 6 ? 2 : 0; };
  Blocks blocks;
  blocks.push_back(conv_block("conv1", input, 6, 5, {pad_first(input[1]), pad_first(input[2])}));
  const Shape map = blocks.back().info.output_shape;
  blocks.push_back(conv_block("conv2", map, 16, 5, {pad_second(map[1]), pad_second(map[2])}));
  const Shape features = blocks.back().info.output_shape;
  if (auto added = append_linear_blocks(blocks, features, {120, 84, num_classes}); !added)
    return added.error();
  return blocks;
}

Result<Blocks> cnn(const Specification&, const Shape& input, int64_t num_classes) {
  if (auto checked = check_image("cnn", input, 4); !checked) return checked.error();
  Blocks blocks;
  blocks.push_back(conv_block("conv1", input, 32, 3, {1, 1}));
  const Shape map = blocks.back().info.output_shape;
  blocks.push_back(conv_block("conv2", map, 64, 3, {1, 1}));
  const Shape features = blocks.back().info.output_shape;
  if (auto added = append_linear_blocks(blocks, features, {128, num_classes}); !added) return added.error();
  return blocks;
}

enum class Norm { kBatch, kGroup };

torch::nn::AnyModule make_norm(Norm norm, int64_t channels) {
  if (norm == Norm::kBatch) return torch::nn::AnyModule(torch::nn::BatchNorm2d(channels));
  const int64_t groups = std::gcd(int64_t{32}, channels / 4);
  return torch::nn::AnyModule(torch::nn::GroupNorm(torch::nn::GroupNormOptions(groups, channels)));
}

torch::nn::Conv2d conv_without_bias(int64_t inputs, int64_t outputs, int64_t kernel, int64_t stride) {
  return torch::nn::Conv2d(
      torch::nn::Conv2dOptions(inputs, outputs, kernel).stride(stride).padding(kernel / 2).bias(false));
}

/// oneDNN's weight gradient of a strided 1x1 convolution over channels-last input writes outside its
/// workspace where the input has fewer channels than the kernel's block (uxlfoundation/oneDNN#6035): 8 with
/// AVX2, 16 with AVX-512. The largest block decides on every CPU, so that all compute such a layer in the
/// same way.
constexpr int64_t kLargestKernelBlock = 16;

/// Every `stride`-th row and column, as a tensor of its own in channels-last format.
at::Tensor subsample(const at::Tensor& images, int64_t stride) {
  return images.slice(2, 0, images.size(2), stride)
      .slice(3, 0, images.size(3), stride)
      .clone(at::MemoryFormat::ChannelsLast);
}

/// He et al. 2016, Fig. 2 left; submodules named as torchvision's BasicBlock, whichever the norm.
struct BasicBlockImpl : torch::nn::Cloneable<BasicBlockImpl> {
  BasicBlockImpl(int64_t inputs, int64_t outputs, int64_t stride, Norm norm)
      : inputs_(inputs), outputs_(outputs), stride_(stride), norm_(norm) {
    reset();
  }

  void reset() override {
    conv1_ = register_module("conv1", conv_without_bias(inputs_, outputs_, 3, stride_));
    bn1_ = make_norm(norm_, outputs_);
    register_module("bn1", bn1_.ptr());
    conv2_ = register_module("conv2", conv_without_bias(outputs_, outputs_, 3, 1));
    bn2_ = make_norm(norm_, outputs_);
    register_module("bn2", bn2_.ptr());
    if (stride_ == 1 && inputs_ == outputs_) return;
    downsample_ =
        torch::nn::Sequential(conv_without_bias(inputs_, outputs_, 1, subsamples_first() ? 1 : stride_));
    downsample_->push_back(make_norm(norm_, outputs_));
    register_module("downsample", downsample_);
  }

  at::Tensor forward(const at::Tensor& input) {
    at::Tensor value = bn1_.forward(conv1_->forward(input)).relu_();
    value = bn2_.forward(conv2_->forward(value));
    return value.add_(shortcut(input)).relu_();
  }

 private:
  bool subsamples_first() const { return stride_ > 1 && inputs_ < kLargestKernelBlock; }

  at::Tensor shortcut(const at::Tensor& input) {
    if (downsample_.is_empty()) return input;
    return downsample_->forward(subsamples_first() ? subsample(input, stride_) : input);
  }

  int64_t inputs_;
  int64_t outputs_;
  int64_t stride_;
  Norm norm_;
  torch::nn::Conv2d conv1_{nullptr};
  torch::nn::Conv2d conv2_{nullptr};
  torch::nn::AnyModule bn1_;
  torch::nn::AnyModule bn2_;
  torch::nn::Sequential downsample_{nullptr};
};
TORCH_MODULE(BasicBlock);

BlockDefinition stem_block(const Shape& input, int64_t width, Norm norm) {
  const auto make = [channels = input[0], width, norm] {
    torch::nn::Sequential block(conv_without_bias(channels, width, 3, 1));
    block->push_back(make_norm(norm, width));
    block->push_back(relu());
    return block;
  };
  return {{"stem", {width, input[1], input[2]}}, norm == Norm::kBatch, make};
}

BlockDefinition residual_block(const std::string& name, const Shape& input, int64_t outputs, int64_t stride,
                               Norm norm) {
  const auto strided = [stride](int64_t side) { return (side - 1) / stride + 1; };
  const auto make = [inputs = input[0], outputs, stride, norm] {
    return torch::nn::Sequential(BasicBlock(inputs, outputs, stride, norm));
  };
  return {{name, {outputs, strided(input[1]), strided(input[2])}}, norm == Norm::kBatch, make};
}

BlockDefinition pool_linear_block(const Shape& input, int64_t num_classes) {
  const auto make = [channels = input[0], num_classes] {
    return torch::nn::Sequential(torch::nn::AdaptiveAvgPool2d(1), torch::nn::Flatten(),
                                 torch::nn::Linear(channels, num_classes));
  };
  return {{"fc", {num_classes}}, false, make};
}

Result<Norm> parse_norm(const Specification& specification) {
  const auto norm = specification.parameters.find("norm");
  if (norm == specification.parameters.end() || norm->second == "batch") return Norm::kBatch;
  if (norm->second == "group") return Norm::kGroup;
  return invalid("resnet18:norm must be batch or group, got \"" + norm->second + "\"");
}

Result<int64_t> parse_width(const Specification& specification) {
  const auto width = specification.parameters.find("width");
  if (width == specification.parameters.end()) return int64_t{64};
  auto parsed = parse_integer("resnet18:width", width->second, 4, 1024);
  if (parsed && *parsed % 4 != 0)
    return invalid("resnet18:width must be a multiple of 4, got " + width->second);
  return parsed;
}

Result<Blocks> resnet18(const Specification& specification, const Shape& input, int64_t num_classes) {
  if (auto checked = check_image("resnet18", input, 8); !checked) return checked.error();
  const auto norm = parse_norm(specification);
  if (!norm) return norm.error();
  const auto width = parse_width(specification);
  if (!width) return width.error();
  if (auto checked = check_layer_size("stem", input[0] * 9, *width); !checked) return checked.error();
  if (auto checked = check_layer_size("fc", *width * 8, num_classes); !checked) return checked.error();
  Blocks blocks{stem_block(input, *width, *norm)};
  for (int64_t layer = 0; layer < 4; ++layer) {
    for (int64_t i = 0; i < 2; ++i) {
      const std::string name = "layer" + std::to_string(layer + 1) + "." + std::to_string(i);
      const int64_t stride = layer > 0 && i == 0 ? 2 : 1;
      blocks.push_back(residual_block(name, blocks.back().info.output_shape, *width << layer, stride, *norm));
    }
  }
  blocks.push_back(pool_linear_block(blocks.back().info.output_shape, num_classes));
  return blocks;
}

}  // namespace

std::vector<ModelFamily> detail::zoo() {
  return {{"mlp", {"hidden"}, mlp},
          {"lenet5", {}, lenet5},
          {"cnn", {}, cnn},
          {"resnet18", {"norm", "width"}, resnet18}};
}

}  // namespace tandem
