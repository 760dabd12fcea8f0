#include "tandem/core/model/auxiliary_head.h"

#include <torch/torch.h>

#include <functional>
#include <numeric>
#include <utility>

#include "tandem/core/base/specification.h"
#include "tandem/core/data/data_description.h"
#include "tandem/core/model/model_detail.h"

namespace tandem {
namespace {

using Make = std::function<torch::nn::Sequential()>;
using Shape = std::vector<int64_t>;

constexpr int kBlockNumber = 1 << 20;
constexpr int64_t kMaxSize = 65536;
constexpr int64_t kMaxClasses = 1'000'000;
constexpr int64_t kMaxLayerWeights = int64_t{1} << 30;

Error invalid(std::string message) {
  return {ErrorCode::kInvalidArgument, "auxiliary head: " + std::move(message)};
}

int64_t num_values(const Shape& shape) {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
}

Result<void> check_sizes(const Shape& shape, int64_t num_classes) {
  if (shape.size() != 1 && shape.size() != 3) {
    return invalid("activations must have shape {C,H,W} or {F}, got " + shape_to_string(shape));
  }
  for (const int64_t size : shape) {
    if (size >= 1 && size <= kMaxSize) continue;
    return invalid("each dimension of the activations must be 1.." + std::to_string(kMaxSize) +
                   ", got shape " + shape_to_string(shape));
  }
  if (num_classes < 2 || num_classes > kMaxClasses) {
    return invalid("the number of classes must be 2.." + std::to_string(kMaxClasses) + ", got " +
                   std::to_string(num_classes));
  }
  return {};
}

Result<void> check_layer_size(int64_t inputs, int64_t outputs) {
  if (inputs <= kMaxLayerWeights / outputs) return {};
  return invalid("a layer would hold " + std::to_string(inputs) + " x " + std::to_string(outputs) +
                 " weights, more than " + std::to_string(kMaxLayerWeights));
}

Result<int64_t> parse_size(const Specification& specification, const std::string& key, int64_t otherwise) {
  const auto found = specification.parameters.find(key);
  if (found == specification.parameters.end()) return otherwise;
  return parse_integer("auxiliary head " + specification.name + ":" + key, found->second, 1, kMaxSize);
}

torch::nn::ReLU relu() {
  return torch::nn::ReLU(torch::nn::ReLUOptions().inplace(true));
}

Result<Make> linear(const Specification&, const Shape& shape, int64_t num_classes) {
  const int64_t inputs = num_values(shape);
  if (auto checked = check_layer_size(inputs, num_classes); !checked) return checked.error();
  return Make(
      [=] { return torch::nn::Sequential(torch::nn::Flatten(), torch::nn::Linear(inputs, num_classes)); });
}

Result<Make> mlp(const Specification& specification, const Shape& shape, int64_t num_classes) {
  const auto hidden = parse_size(specification, "hidden", 128);
  if (!hidden) return hidden.error();
  const int64_t inputs = num_values(shape);
  if (auto checked = check_layer_size(inputs, *hidden); !checked) return checked.error();
  if (auto checked = check_layer_size(*hidden, num_classes); !checked) return checked.error();
  return Make([=, width = *hidden] {
    return torch::nn::Sequential(torch::nn::Flatten(), torch::nn::Linear(inputs, width), relu(),
                                 torch::nn::Linear(width, num_classes));
  });
}

Result<Make> conv(const Specification& specification, const Shape& shape, int64_t num_classes) {
  if (shape.size() != 3) {
    return invalid("conv needs activations {C,H,W}, got " + shape_to_string(shape));
  }
  const auto channels = parse_size(specification, "channels", 16);
  if (!channels) return channels.error();
  const int64_t features = *channels * shape[1] * shape[2];
  if (auto checked = check_layer_size(shape[0], *channels); !checked) return checked.error();
  if (auto checked = check_layer_size(features, num_classes); !checked) return checked.error();
  return Make([=, inputs = shape[0], outputs = *channels] {
    return torch::nn::Sequential(torch::nn::Conv2d(torch::nn::Conv2dOptions(inputs, outputs, 1)), relu(),
                                 torch::nn::Flatten(), torch::nn::Linear(features, num_classes));
  });
}

struct Head {
  std::string name;
  std::vector<std::string> parameters;
  Result<Make> (*define)(const Specification&, const Shape&, int64_t);
};

const std::vector<Head>& heads() {
  static const std::vector<Head> entries{
      {"linear", {}, linear}, {"mlp", {"hidden"}, mlp}, {"conv", {"channels"}, conv}};
  return entries;
}

Error unknown_head(const std::string& name) {
  const auto nearest = nearest_name(name, {"linear", "mlp", "conv"});
  const std::string hint = nearest ? ", did you mean " + *nearest + "?" : ".";
  return invalid("unknown \"" + name + "\"" + hint + " Known: linear, mlp, conv");
}

}  // namespace

Result<ModelPart> build_auxiliary_head(const std::string& specification, const Shape& activation_shape,
                                       int64_t num_classes, uint64_t seed) {
  const auto name = specification_name(specification);
  if (!name) return name.error();
  const Head* head = nullptr;
  for (const Head& candidate : heads()) {
    if (candidate.name == *name) head = &candidate;
  }
  if (head == nullptr) return unknown_head(*name);
  const auto parsed = parse_specification(specification, Argument::kNone);
  if (!parsed) return parsed.error();
  if (auto checked = check_parameters(*parsed, head->parameters); !checked) return checked.error();
  if (auto checked = check_sizes(activation_shape, num_classes); !checked) return checked.error();
  auto make = head->define(*parsed, activation_shape, num_classes);
  if (!make) return make.error();
  return detail::build_named_part({{"auxiliary", {num_classes}}, false, *std::move(make)}, seed,
                                  kBlockNumber);
}

}  // namespace tandem
