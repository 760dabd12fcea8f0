#include <cmath>

#include "support/test.h"
#include "tandem/core/model/model.h"

namespace tandem {
namespace {

namespace F = torch::nn::functional;
using Shape = std::vector<int64_t>;

ModelDefinition define(const std::string& specification, const Shape& input, int64_t classes = 10) {
  auto definition = define_model(specification, input, classes);
  REQUIRE_MESSAGE(definition.has_value(), specification);
  return *definition;
}

std::string mistake(const std::string& specification, const Shape& input, int64_t classes = 10) {
  const auto definition = define_model(specification, input, classes);
  REQUIRE_MESSAGE(!definition.has_value(), specification);
  CHECK(definition.error().code == ErrorCode::kInvalidArgument);
  return definition.error().message;
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

std::vector<std::string> names(const NamedTensors& tensors) {
  std::vector<std::string> list;
  for (const NamedTensor& entry : tensors) list.push_back(entry.name);
  return list;
}

int64_t num_weights(const ModelPart& part) {
  return total_bytes(part.parameters()) / 4;
}

at::Tensor random_batch(Shape shape, int64_t batch) {
  auto generator = at::detail::createCPUGenerator(99);
  shape.insert(shape.begin(), batch);
  return torch::randn(shape, generator);
}

/// A weight by name, in plain NCHW.
at::Tensor plain(const ModelPart& part, const std::string& name) {
  const NamedTensors state = part.state();
  const at::Tensor* tensor = find_tensor(state, name);
  REQUIRE_MESSAGE(tensor != nullptr, name);
  return tensor->detach().contiguous().clone(at::MemoryFormat::Contiguous);
}

at::Tensor batch_norm(const ModelPart& part, const std::string& prefix, const at::Tensor& x) {
  return at::batch_norm(x, plain(part, prefix + "weight"), plain(part, prefix + "bias"),
                        plain(part, prefix + "running_mean"), plain(part, prefix + "running_var"), false, 0.1,
                        1e-5, false);
}

at::Tensor group_norm(const ModelPart& part, const std::string& prefix, int64_t groups, const at::Tensor& x) {
  return at::group_norm(x, groups, plain(part, prefix + "weight"), plain(part, prefix + "bias"), 1e-5);
}

}  // namespace

TEST_SUITE("core/model/model_zoo") {
  TEST_CASE("block counts, names and shapes are as documented") {
    const ModelDefinition cnn = define("cnn", {1, 28, 28});
    REQUIRE(cnn.num_blocks() == 4);
    CHECK(cnn.block(0).name == "conv1");
    CHECK(cnn.block(0).output_shape == Shape{32, 14, 14});
    CHECK(cnn.block(1).output_shape == Shape{64, 7, 7});
    CHECK(cnn.block(2).name == "fc1");
    CHECK(cnn.block(2).output_shape == Shape{128});
    CHECK(cnn.block(3).output_shape == Shape{10});
    CHECK(cnn.specification() == "cnn");
    CHECK(cnn.input_shape() == Shape{1, 28, 28});
    CHECK(cnn.num_classes() == 10);

    const ModelDefinition lenet5 = define("lenet5", {1, 28, 28});
    REQUIRE(lenet5.num_blocks() == 5);
    CHECK(lenet5.block(0).output_shape == Shape{6, 14, 14});
    CHECK(lenet5.block(1).output_shape == Shape{16, 5, 5});
    CHECK(lenet5.block(4).name == "fc3");

    const ModelDefinition resnet = define("resnet18", {3, 32, 32});
    REQUIRE(resnet.num_blocks() == 10);
    CHECK(resnet.block(0).name == "stem");
    CHECK(resnet.block(3).name == "layer2.0");
    CHECK(resnet.block(3).output_shape == Shape{128, 16, 16});
    CHECK(resnet.block(8).output_shape == Shape{512, 4, 4});
    CHECK(resnet.block(9).name == "fc");

    CHECK(define("mlp", {4}).num_blocks() == 3);
    CHECK(define("mlp:hidden=7", {4}).num_blocks() == 2);
    CHECK(define("mlp:hidden=7-6-5", {4}).block(1).output_shape == Shape{6});
  }

  TEST_CASE("every block's real output has the documented shape, for every supported image size") {
    const std::vector<std::string> specifications{"mlp",
                                                  "mlp:hidden=16",
                                                  "lenet5",
                                                  "cnn",
                                                  "resnet18:norm=batch,width=8",
                                                  "resnet18:norm=group,width=8"};
    const std::vector<Shape> shapes{{1, 8, 8}, {1, 28, 28}, {3, 32, 32}, {2, 9, 13}};
    const torch::NoGradGuard no_grad;
    for (const std::string& specification : specifications) {
      for (const Shape& shape : shapes) {
        CAPTURE(specification);
        CAPTURE(shape[1]);
        const ModelDefinition definition = define(specification, shape, 7);
        at::Tensor value = random_batch(shape, 2);
        for (int i = 0; i < definition.num_blocks(); ++i) {
          value = definition.build(1, i, i + 1).forward(value);
          Shape expected = definition.block(i).output_shape;
          expected.insert(expected.begin(), 2);
          CHECK(value.sizes().vec() == expected);
        }
        CHECK(value.sizes().vec() == Shape{2, 7});
      }
    }
  }

  TEST_CASE("weight counts are the published ones") {
    CHECK(num_weights(define("lenet5", {1, 28, 28}).build(1)) == 61'706);
    CHECK(num_weights(define("lenet5", {1, 32, 32}).build(1)) == 61'706);
    CHECK(num_weights(define("cnn", {1, 28, 28}).build(1)) == 320 + 18'496 + 401'536 + 1'290);
    CHECK(num_weights(define("mlp", {1, 28, 28}).build(1)) == 200'960 + 32'896 + 1'290);
    // CIFAR-style ResNet-18, ten classes.
    CHECK(num_weights(define("resnet18", {3, 32, 32}).build(1)) == 11'173'962);
    CHECK(num_weights(define("resnet18:norm=group", {3, 32, 32}).build(1)) == 11'173'962);
  }

  TEST_CASE("state has the names and the order of PyTorch's state_dict") {
    CHECK(names(define("cnn", {1, 28, 28}).build(1).state()) ==
          std::vector<std::string>{"0.0.weight", "0.0.bias", "1.0.weight", "1.0.bias", "2.1.weight",
                                   "2.1.bias", "3.0.weight", "3.0.bias"});
    CHECK(names(define("mlp:hidden=5", {3}).build(1).state()) ==
          std::vector<std::string>{"0.0.weight", "0.0.bias", "1.0.weight", "1.0.bias"});
    CHECK(names(define("mlp:hidden=5", {1, 8, 8}).build(1).parameters())[0] == "0.1.weight");

    const ModelDefinition resnet = define("resnet18:width=8", {3, 32, 32});
    CHECK(names(resnet.build(1, 3, 4).state()) == std::vector<std::string>{
                                                      "3.0.conv1.weight",
                                                      "3.0.bn1.weight",
                                                      "3.0.bn1.bias",
                                                      "3.0.bn1.running_mean",
                                                      "3.0.bn1.running_var",
                                                      "3.0.bn1.num_batches_tracked",
                                                      "3.0.conv2.weight",
                                                      "3.0.bn2.weight",
                                                      "3.0.bn2.bias",
                                                      "3.0.bn2.running_mean",
                                                      "3.0.bn2.running_var",
                                                      "3.0.bn2.num_batches_tracked",
                                                      "3.0.downsample.0.weight",
                                                      "3.0.downsample.1.weight",
                                                      "3.0.downsample.1.bias",
                                                      "3.0.downsample.1.running_mean",
                                                      "3.0.downsample.1.running_var",
                                                      "3.0.downsample.1.num_batches_tracked",
                                                  });
    CHECK(names(resnet.build(1, 0, 1).buffers()) ==
          std::vector<std::string>{"0.1.running_mean", "0.1.running_var", "0.1.num_batches_tracked"});
    CHECK(names(resnet.build(1, 9, 10).state()) == std::vector<std::string>{"9.2.weight", "9.2.bias"});
    CHECK(names(define("resnet18:norm=group,width=8", {3, 32, 32}).build(1, 1, 2).state()) ==
          std::vector<std::string>{"1.0.conv1.weight", "1.0.bn1.weight", "1.0.bn1.bias", "1.0.conv2.weight",
                                   "1.0.bn2.weight", "1.0.bn2.bias"});
  }

  TEST_CASE("cnn computes what its layers say, written out in plain NCHW") {
    const torch::NoGradGuard no_grad;
    for (const int64_t channels : {1, 3}) {
      CAPTURE(channels);
      const ModelPart model = define("cnn", {channels, 28, 28}).build(5);
      const at::Tensor x = random_batch({channels, 28, 28}, 3);
      at::Tensor y = at::conv2d(x, plain(model, "0.0.weight"), plain(model, "0.0.bias"), 1, 1);
      y = at::max_pool2d(at::relu(y), 2);
      y = at::conv2d(y, plain(model, "1.0.weight"), plain(model, "1.0.bias"), 1, 1);
      y = at::max_pool2d(at::relu(y), 2).flatten(1);
      y = at::relu(at::linear(y, plain(model, "2.1.weight"), plain(model, "2.1.bias")));
      y = at::linear(y, plain(model, "3.0.weight"), plain(model, "3.0.bias"));
      CHECK(at::allclose(model.forward(x), y, 1e-5, 1e-6));
    }
  }

  TEST_CASE("lenet5 pads images below 32 and maps below 6") {
    const torch::NoGradGuard no_grad;
    for (const int64_t side : {8, 28, 32}) {
      CAPTURE(side);
      const ModelPart model = define("lenet5", {1, side, side}).build(5);
      const at::Tensor x = random_batch({1, side, side}, 3);
      at::Tensor y =
          at::conv2d(x, plain(model, "0.0.weight"), plain(model, "0.0.bias"), 1, side < 32 ? 2 : 0);
      y = at::max_pool2d(at::relu(y), 2);
      y = at::conv2d(y, plain(model, "1.0.weight"), plain(model, "1.0.bias"), 1, side == 8 ? 2 : 0);
      y = at::max_pool2d(at::relu(y), 2).flatten(1);
      y = at::relu(at::linear(y, plain(model, "2.1.weight"), plain(model, "2.1.bias")));
      y = at::relu(at::linear(y, plain(model, "3.0.weight"), plain(model, "3.0.bias")));
      y = at::linear(y, plain(model, "4.0.weight"), plain(model, "4.0.bias"));
      CHECK(at::allclose(model.forward(x), y, 1e-5, 1e-6));
    }
  }

  TEST_CASE("mlp flattens images in channel, row, column order") {
    const torch::NoGradGuard no_grad;
    const ModelPart model = define("mlp:hidden=9", {3, 8, 8}).build(5);
    const at::Tensor x = random_batch({3, 8, 8}, 4);
    const at::Tensor h =
        at::relu(at::linear(x.flatten(1), plain(model, "0.1.weight"), plain(model, "0.1.bias")));
    const at::Tensor y = at::linear(h, plain(model, "1.0.weight"), plain(model, "1.0.bias"));
    CHECK(at::allclose(model.forward(x), y, 1e-5, 1e-6));
  }

  TEST_CASE("a strided basic block is relu(norm(conv(relu(norm(conv x)))) + norm(conv1x1 x))") {
    const torch::NoGradGuard no_grad;
    for (const bool group : {false, true}) {
      CAPTURE(group);
      ModelPart block =
          define(group ? "resnet18:norm=group,width=8" : "resnet18:width=8", {3, 32, 32}).build(5, 3, 4);
      block.set_training(false);
      // The defaults (mean 0, variance 1, weight 1, bias 0) would hide a norm that is left out.
      for (const NamedTensor& entry : block.state()) {
        if (entry.tensor.dim() == 1) entry.tensor.copy_(torch::linspace(0.5, 1.5, entry.tensor.numel()));
      }
      // 16 channels: gcd(32, 16 / 4) = 4 groups.
      const auto norm = [&](const std::string& prefix, const at::Tensor& x) {
        return group ? group_norm(block, prefix, 4, x) : batch_norm(block, prefix, x);
      };
      const at::Tensor x = random_batch({8, 32, 32}, 2);
      at::Tensor y = at::conv2d(x, plain(block, "3.0.conv1.weight"), {}, 2, 1);
      y = at::relu(norm("3.0.bn1.", y));
      y = norm("3.0.bn2.", at::conv2d(y, plain(block, "3.0.conv2.weight"), {}, 1, 1));
      const at::Tensor shortcut =
          norm("3.0.downsample.1.", at::conv2d(x, plain(block, "3.0.downsample.0.weight"), {}, 2));
      CHECK(at::allclose(block.forward(x), at::relu(y + shortcut), 1e-4, 1e-5));
    }
  }

  TEST_CASE("an unstrided basic block adds its input, and the head averages and classifies") {
    const torch::NoGradGuard no_grad;
    const ModelDefinition definition = define("resnet18:norm=group,width=8", {3, 32, 32});
    const ModelPart block = definition.build(5, 1, 2);
    const at::Tensor x = random_batch({8, 32, 32}, 2);
    at::Tensor y = at::conv2d(x, plain(block, "1.0.conv1.weight"), {}, 1, 1);
    y = at::relu(group_norm(block, "1.0.bn1.", 2, y));
    y = group_norm(block, "1.0.bn2.", 2, at::conv2d(y, plain(block, "1.0.conv2.weight"), {}, 1, 1));
    CHECK(at::allclose(block.forward(x), at::relu(y + x), 1e-4, 1e-5));

    const ModelPart head = definition.build(5, 9, 10);
    const at::Tensor map = random_batch({64, 4, 4}, 2);
    const at::Tensor logits =
        at::linear(map.mean({2, 3}), plain(head, "9.2.weight"), plain(head, "9.2.bias"));
    CHECK(at::allclose(head.forward(map), logits, 1e-5, 1e-6));
  }

  TEST_CASE("uses_batch_statistics is true exactly where batch norm is") {
    const ModelDefinition batch = define("resnet18:width=8", {3, 32, 32});
    CHECK(batch.uses_batch_statistics(0, 10));
    CHECK(batch.uses_batch_statistics(8, 10));
    CHECK_FALSE(batch.uses_batch_statistics(9, 10));
    CHECK_FALSE(define("resnet18:norm=group,width=8", {3, 32, 32}).uses_batch_statistics(0, 10));
    CHECK_FALSE(define("cnn", {1, 28, 28}).uses_batch_statistics(0, 4));
  }

  TEST_CASE("an unknown model or key is refused with the nearest known one") {
    // Other tests of this program may have registered models behind these.
    CHECK(mistake("cnnn", {1, 28, 28})
              .starts_with(
                  "unknown model \"cnnn\", did you mean cnn? Known models: mlp, lenet5, cnn, resnet18"));
    CHECK(contains(mistake("qqqqqqqqqqq:a=b", {1, 28, 28}),
                   "unknown model \"qqqqqqqqqqq\". Known models: mlp"));
    CHECK(contains(mistake("file:cnn", {1, 28, 28}), "unknown model \"file\""));
    const std::string key = mistake("resnet18:widht=8", {3, 32, 32});
    CHECK(contains(key, "widht"));
    CHECK(contains(key, "width"));
    CHECK(contains(mistake("cnn:width=8", {1, 28, 28}), "width"));
    CHECK(mistake("mlp?hidden=64", {4}) == "\"mlp?hidden=64\": write mlp:hidden=64");
  }

  TEST_CASE("values out of their range are refused") {
    CHECK(mistake("resnet18:norm=layer", {3, 32, 32}) ==
          "resnet18:norm must be batch or group, got \"layer\"");
    CHECK(mistake("resnet18:width=10", {3, 32, 32}) == "resnet18:width must be a multiple of 4, got 10");
    CHECK(contains(mistake("resnet18:width=0", {3, 32, 32}), "resnet18:width"));
    for (const char* hidden : {"", "0", "5-", "-5", "a", "5--5", "99999999"}) {
      CAPTURE(hidden);
      CHECK(contains(mistake(std::string("mlp:hidden=") + hidden, {4}), "mlp:hidden"));
    }
    std::string many = "1";
    for (int i = 0; i < 64; ++i) many += "-1";
    CHECK(contains(mistake("mlp:hidden=" + many, {4}), "mlp:hidden must name at most 64 layers"));
    CHECK(mistake("mlp", {4}, 1) == "the number of classes must be 2..1000000, got 1");
  }

  TEST_CASE("an input that does not fit the model is refused and says why") {
    CHECK(mistake("cnn", {784}) == "model cnn needs images {C,H,W}, got examples of shape 784");
    CHECK(mistake("lenet5", {1, 3, 28}) ==
          "model lenet5 needs images of at least 4x4 pixels, got examples of shape 1x3x28");
    CHECK(mistake("resnet18", {3, 32, 7}) ==
          "model resnet18 needs images of at least 8x8 pixels, got examples of shape 3x32x7");
    CHECK(mistake("mlp", {28, 28}) == "examples must have shape {C,H,W} or {F}, got 28x28");
    CHECK(mistake("mlp", {1, 0, 28}) == "each dimension of an example must be 1..65536, got shape 1x0x28");
    CHECK(contains(mistake("mlp", {65536, 65536, 65536}), "an example may hold at most 268435456 values"));
    CHECK(mistake("mlp:hidden=65536", {65536}) ==
          "block fc1 would hold 65536 x 65536 weights, more than 1073741824");
  }

  TEST_CASE("the smallest images that are accepted do run") {
    const torch::NoGradGuard no_grad;
    for (const auto& [specification, side] :
         std::vector<std::pair<std::string, int64_t>>{{"cnn", 4}, {"lenet5", 4}, {"resnet18:width=4", 8}}) {
      CAPTURE(specification);
      const ModelPart model = define(specification, {1, side, side}).build(1);
      CHECK(model.forward(random_batch({1, side, side}, 2)).sizes().vec() == Shape{2, 10});
    }
  }
}

}  // namespace tandem
