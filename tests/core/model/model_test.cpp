#include "tandem/core/model/model.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <thread>

#include "support/test.h"
#include "tandem/core/base/random.h"

namespace tandem {
namespace {

using Shape = std::vector<int64_t>;

ModelDefinition define(const std::string& specification, const Shape& input) {
  auto definition = define_model(specification, input, 10);
  REQUIRE_MESSAGE(definition.has_value(), specification);
  return *definition;
}

at::Tensor random_batch(Shape shape, int64_t batch, uint64_t seed) {
  auto generator = at::detail::createCPUGenerator(seed);
  shape.insert(shape.begin(), batch);
  return torch::randn(shape, generator);
}

at::Tensor random_labels(int64_t batch, uint64_t seed) {
  auto generator = at::detail::createCPUGenerator(seed);
  return torch::randint(0, 10, {batch}, generator, torch::kLong);
}

/// Bitwise, value by value; at::equal would call 0 and -0 the same.
bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  if (a.sizes() != b.sizes() || a.scalar_type() != b.scalar_type()) return false;
  const at::Tensor x = a.detach().contiguous();
  const at::Tensor y = b.detach().contiguous();
  return std::memcmp(x.data_ptr(), y.data_ptr(), x.nbytes()) == 0;
}

bool same_bits(const NamedTensors& a, const NamedTensors& b) {
  bool same = a.size() == b.size();
  for (size_t i = 0; same && i < a.size(); ++i) {
    same = a[i].name == b[i].name && same_bits(a[i].tensor, b[i].tensor);
  }
  return same;
}

NamedTensors gradients(const ModelPart& part) {
  NamedTensors list;
  for (const NamedTensor& entry : part.parameters()) list.push_back({entry.name, entry.tensor.grad()});
  return list;
}

NamedTensors join(NamedTensors front, const NamedTensors& tail) {
  front.insert(front.end(), tail.begin(), tail.end());
  return front;
}

struct StepResult {
  at::Tensor loss;
  NamedTensors gradients;
  NamedTensors buffers;
};

StepResult whole_step(const ModelDefinition& definition, const at::Tensor& images, const at::Tensor& labels) {
  const ModelPart model = definition.build(3);
  const at::Tensor loss = torch::cross_entropy_loss(model.forward(images), labels);
  loss.backward();
  return {loss.detach(), gradients(model), model.buffers()};
}

enum class Wire { kKeepsFormat, kForgetsFormat };

/// What arrives at the other side: own storage, and in the worst case plain NCHW strides.
at::Tensor transport(const at::Tensor& tensor, Wire wire) {
  const auto format = wire == Wire::kKeepsFormat ? at::MemoryFormat::Preserve : at::MemoryFormat::Contiguous;
  return tensor.detach().clone(format);
}

StepResult split_step(const ModelDefinition& definition, int cut, Wire wire, const at::Tensor& images,
                      const at::Tensor& labels) {
  const ModelPart front = definition.build(3, 0, cut);
  const ModelPart tail = definition.build(3, cut, definition.num_blocks());
  const at::Tensor activations = front.forward(images);
  const at::Tensor received = transport(activations, wire).requires_grad_();
  const at::Tensor loss = torch::cross_entropy_loss(tail.forward(received), labels);
  loss.backward();
  activations.backward(transport(received.grad(), wire));
  return {loss.detach(), join(gradients(front), gradients(tail)), join(front.buffers(), tail.buffers())};
}

bool has_channels_last_strides(const at::Tensor& tensor) {
  const auto n = tensor.sizes();
  return tensor.strides().vec() == Shape{n[1] * n[2] * n[3], 1, n[3] * n[1], n[1]};
}

}  // namespace

TEST_SUITE("core/model/model") {
  TEST_CASE("a model split at any cut gives bit for bit the loss, gradients and buffers of the whole") {
    struct Case {
      std::string specification;
      std::vector<Shape> inputs;
    };
    const std::vector<Case> cases{
        {"cnn", {{1, 8, 8}, {1, 28, 28}, {3, 32, 32}, {1, 4, 4}}},
        {"lenet5", {{1, 8, 8}, {1, 28, 28}, {3, 32, 32}}},
        {"mlp", {{20}, {1, 8, 8}, {3, 32, 32}}},
        {"resnet18:width=8,norm=batch", {{1, 8, 8}, {1, 28, 28}, {3, 32, 32}}},
        {"resnet18:width=8,norm=group", {{1, 8, 8}, {1, 28, 28}, {3, 32, 32}}},
    };
    for (const Case& c : cases) {
      for (const Shape& shape : c.inputs) {
        const ModelDefinition definition = define(c.specification, shape);
        const at::Tensor images = random_batch(shape, 6, 11);
        const at::Tensor labels = random_labels(6, 12);
        const StepResult whole = whole_step(definition, images, labels);
        REQUIRE(std::isfinite(whole.loss.item<float>()));
        for (int cut = 1; cut < definition.num_blocks(); ++cut) {
          for (const Wire wire : {Wire::kKeepsFormat, Wire::kForgetsFormat}) {
            CAPTURE(c.specification);
            CAPTURE(shape.back());
            CAPTURE(cut);
            CAPTURE(static_cast<int>(wire));
            const StepResult split = split_step(definition, cut, wire, images, labels);
            CHECK(same_bits(whole.loss, split.loss));
            CHECK(same_bits(whole.gradients, split.gradients));
            CHECK(same_bits(whole.buffers, split.buffers));
          }
        }
      }
    }
  }

  TEST_CASE("a block's weights depend on the seed and its number only") {
    const ModelDefinition definition = define("resnet18:width=8", {3, 32, 32});
    torch::manual_seed(1);
    const ModelPart whole = definition.build(42);
    torch::manual_seed(2);
    CHECK(same_bits(whole.slice(4, 7).state(), definition.build(42, 4, 7).state()));
    CHECK(same_bits(whole.state(), definition.build(42).state()));
    CHECK_FALSE(same_bits(whole.state(), definition.build(43).state()));
    // Blocks 1 and 2 have the same layout but not the same weights.
    CHECK_FALSE(same_bits(definition.build(42, 1, 2).state()[0].tensor,
                          definition.build(42, 2, 3).state()[0].tensor));
  }

  TEST_CASE("models built by several threads at once are those built by one") {
    const ModelDefinition definition = define("lenet5", {1, 28, 28});
    const NamedTensors expected = definition.build(7).state();
    std::vector<int> same(4, 0);
    std::vector<std::thread> threads;
    for (int& result : same) {
      threads.emplace_back([&] {
        for (int i = 0; i < 5; ++i) result += same_bits(expected, definition.build(7).state());
      });
    }
    for (std::thread& thread : threads) thread.join();
    for (const int result : same) CHECK(result == 5);
  }

  TEST_CASE("weights are drawn as PyTorch draws them, from a generator of their own") {
    const ModelPart model = define("cnn", {3, 28, 28}).build(42);
    const NamedTensors state = model.state();
    // Block 1: conv 32 -> 64, 3x3: bound 1 / sqrt(32 * 9) for the weight and for the bias.
    const double bound = 1.0 / std::sqrt(288.0);
    auto generator =
        at::make_generator<at::CPUGeneratorImpl>(derive_seed(42, RandomPurpose::kInitialise, {1, 0}));
    CHECK(at::equal(state[2].tensor, at::empty({64, 32, 3, 3}).uniform_(-bound, bound, generator)));
    auto bias_generator =
        at::make_generator<at::CPUGeneratorImpl>(derive_seed(42, RandomPurpose::kInitialise, {1, 1}));
    CHECK(at::equal(state[3].tensor, at::empty({64}).uniform_(-bound, bound, bias_generator)));

    const at::Tensor linear =
        state[4].tensor;  // 3136 -> 128: U(-1/56, 1/56), standard deviation 1/(56 sqrt 3)
    CHECK(linear.abs().max().item<double>() <= 1.0 / 56.0);
    CHECK(linear.abs().max().item<double>() > 0.999 / 56.0);
    CHECK(linear.std().item<double>() == doctest::Approx(1.0 / (56.0 * std::sqrt(3.0))).epsilon(0.01));

    const ModelPart stem = define("resnet18:width=8", {3, 32, 32}).build(42, 0, 1);
    CHECK(at::equal(stem.state()[1].tensor, torch::ones({8})));
    CHECK(at::equal(stem.state()[2].tensor, torch::zeros({8})));
  }

  TEST_CASE(
      "kernels, outputs and gradients are channels-last, also where there is one channel or one pixel") {
    const ModelPart cnn = define("cnn", {1, 28, 28}).build(1);
    CHECK(cnn.state()[0].tensor.strides().vec() == Shape{9, 1, 3, 1});
    const at::Tensor activations = cnn.slice(0, 1).forward(random_batch({1, 28, 28}, 2, 3));
    CHECK(has_channels_last_strides(activations));
    activations.sum().backward();
    CHECK(cnn.state()[0].tensor.grad().strides().vec() == Shape{9, 1, 3, 1});

    const ModelPart resnet = define("resnet18:width=8", {1, 8, 8}).build(1);
    for (const NamedTensor& entry : resnet.parameters()) {
      CAPTURE(entry.name);
      if (entry.tensor.dim() == 4) CHECK(has_channels_last_strides(entry.tensor));
    }
    const at::Tensor pixel = resnet.slice(0, 8).forward(random_batch({1, 8, 8}, 4, 3));
    REQUIRE(pixel.sizes().vec() == Shape{4, 64, 1, 1});
    CHECK(has_channels_last_strides(pixel));

    // A gradient comes back in whatever format the wire gave it.
    const at::Tensor map = resnet.slice(0, 2).forward(random_batch({1, 8, 8}, 4, 3));
    bool normalised = false;
    map.register_hook([&](const at::Tensor& gradient) { normalised = has_channels_last_strides(gradient); });
    map.backward(torch::ones({4, 8, 8, 8}));
    CHECK(normalised);
  }

  TEST_CASE("parameters require gradients and alias the model") {
    const ModelPart model = define("mlp:hidden=4", {3}).build(1);
    for (const NamedTensor& entry : model.parameters()) CHECK(entry.tensor.requires_grad());
    const at::Tensor x = torch::ones({1, 3});
    const torch::NoGradGuard no_grad;
    for (const NamedTensor& entry : model.parameters()) entry.tensor.zero_();
    model.parameters().back().tensor.fill_(2.5);
    CHECK(at::equal(model.forward(x), torch::full({1, 10}, 2.5)));
  }

  TEST_CASE("forward builds a graph unless gradients are off") {
    const ModelPart model = define("cnn", {1, 8, 8}).build(1);
    const at::Tensor x = random_batch({1, 8, 8}, 2, 3);
    CHECK(model.forward(x).requires_grad());
    const torch::NoGradGuard no_grad;
    CHECK_FALSE(model.forward(x).requires_grad());
  }

  TEST_CASE("forward leaves its input alone and says which blocks an input does not fit") {
    const ModelPart model = define("cnn", {3, 8, 8}).build(1);
    const at::Tensor x = random_batch({3, 8, 8}, 2, 3);
    const at::Tensor before = x.clone();
    (void)model.forward(x);
    CHECK(same_bits(x, before));
    const ModelPart tail = model.slice(2, 4);
    std::string message;
    try {
      (void)tail.forward(torch::zeros({2, 5}));
    } catch (const std::runtime_error& error) {
      message = error.what();
    }
    CHECK(message.substr(0, message.find(": ")) == "forward through blocks [2, 4) of an input 2x5");
  }

  TEST_CASE("set_training switches batch norm between batch and running statistics") {
    ModelPart stem = define("resnet18:width=8", {3, 32, 32}).build(1, 0, 1);
    const torch::NoGradGuard no_grad;
    const at::Tensor x = random_batch({3, 32, 32}, 4, 3);
    const auto counter = [&] { return stem.buffers()[2].tensor.item<int64_t>(); };
    (void)stem.forward(x);
    CHECK(counter() == 1);
    const NamedTensors before = snapshot(stem.buffers());
    stem.set_training(false);
    (void)stem.forward(x);
    CHECK(same_bits(before, stem.buffers()));
    stem.set_training(true);
    (void)stem.forward(x);
    CHECK(counter() == 2);
    CHECK_FALSE(same_bits(before, stem.buffers()));
  }

  TEST_CASE("load copies in place, whatever the memory format, and keeps the model's") {
    const ModelDefinition definition = define("resnet18:width=8", {1, 8, 8});
    ModelPart model = definition.build(1);
    const NamedTensors aliases = model.state();
    NamedTensors other = snapshot(definition.build(2).state());
    for (NamedTensor& entry : other) entry.tensor = entry.tensor.contiguous();
    REQUIRE(model.load(other).has_value());
    CHECK(same_bits(aliases, other));
    for (const NamedTensor& entry : model.parameters()) {
      CHECK(entry.tensor.requires_grad());
      if (entry.tensor.dim() == 4) CHECK(has_channels_last_strides(entry.tensor));
    }
    other[0].tensor.zero_();
    CHECK(aliases[0].tensor.abs().sum().item<float>() > 0.0f);
  }

  TEST_CASE("load refuses what does not fit or is not finite, and changes nothing") {
    const ModelDefinition definition = define("cnn", {1, 8, 8});
    ModelPart model = definition.build(1);
    NamedTensors state = snapshot(definition.build(2).state());
    state.back().tensor[3] = std::numeric_limits<float>::quiet_NaN();
    const auto not_finite = model.load(state);
    REQUIRE_FALSE(not_finite.has_value());
    CHECK(not_finite.error().code == ErrorCode::kNonFinite);
    CHECK(not_finite.error().message == "tensor 3.0.bias holds NaN or infinity");
    state.pop_back();
    const auto too_few = model.load(state);
    REQUIRE_FALSE(too_few.has_value());
    CHECK(too_few.error().code == ErrorCode::kShapeMismatch);
    CHECK(too_few.error().message == "tensor 8 of 8: expected 3.0.bias (Float [10]), got none");
    CHECK(same_bits(model.state(), definition.build(1).state()));
  }

  TEST_CASE("clone shares nothing and computes the same; slice and handles share") {
    for (const char* specification : {"cnn", "resnet18:width=8", "resnet18:width=8,norm=group"}) {
      CAPTURE(specification);
      ModelPart model = define(specification, {1, 8, 8}).build(1);
      const at::Tensor x = random_batch({1, 8, 8}, 4, 3);
      const torch::NoGradGuard no_grad;
      (void)model.forward(x);  // moves the running statistics
      model.set_training(false);
      ModelPart copy = model.clone();
      CHECK(same_bits(copy.state(), model.state()));
      CHECK(same_bits(copy.forward(x), model.forward(x)));  // also in evaluation mode
      for (const NamedTensor& entry : copy.parameters()) {
        CHECK(entry.tensor.requires_grad());
        if (entry.tensor.dim() == 4) CHECK(has_channels_last_strides(entry.tensor));
      }
      const ModelPart handle = model;
      const ModelPart front = model.slice(0, 2);
      CHECK(front.first() == 0);
      CHECK(front.last() == 2);
      const NamedTensors kept = snapshot(copy.state());
      for (const NamedTensor& entry : model.parameters()) entry.tensor.fill_(0.25);
      CHECK(same_bits(copy.state(), kept));
      CHECK(front.parameters()[0].tensor.is_same(model.parameters()[0].tensor));
      CHECK(handle.parameters().back().tensor[0].item<float>() == 0.25f);
    }
  }

  TEST_CASE("slices of slices keep the global block numbers") {
    const ModelPart tail = define("lenet5", {1, 28, 28}).build(1, 1, 5);
    CHECK(tail.first() == 1);
    CHECK(tail.slice(3, 5).slice(4, 5).state()[0].name == "4.0.weight");
    CHECK_THROWS_WITH_AS((void)tail.slice(0, 2), "ModelPart.slice needs 1 <= first < last <= 5, got [0, 2)",
                         std::invalid_argument);
    CHECK_THROWS_WITH_AS((void)tail.slice(3, 3), "ModelPart.slice needs 1 <= first < last <= 5, got [3, 3)",
                         std::invalid_argument);
  }

  TEST_CASE("zero_grad leaves no gradient behind") {
    ModelPart model = define("cnn", {1, 8, 8}).build(1);
    const at::Tensor x = random_batch({1, 8, 8}, 2, 3);
    model.forward(x).sum().backward();
    const NamedTensors first = snapshot(gradients(model));
    model.zero_grad();
    for (const NamedTensor& entry : model.parameters()) CHECK_FALSE(entry.tensor.grad().defined());
    model.forward(x).sum().backward();
    CHECK(same_bits(first, gradients(model)));
  }

  TEST_CASE("to moves in place, so that aliases and slices stay valid") {
    ModelPart model = define("cnn", {1, 8, 8}).build(1);
    const ModelPart front = model.slice(0, 1);
    const NamedTensors before = snapshot(model.state());
    model.to(at::kCPU);
    CHECK(same_bits(before, model.state()));
    CHECK(front.parameters()[0].tensor.is_same(model.parameters()[0].tensor));
    if (!torch::cuda::is_available()) {
      MESSAGE("no CUDA device: moving to one is not tested");
      return;
    }
    model.to(at::kCUDA);
    CHECK(front.parameters()[0].tensor.is_cuda());
    model.to(at::kCPU);
    CHECK(same_bits(before, model.state()));
    CHECK(has_channels_last_strides(front.parameters()[0].tensor));
  }

  TEST_CASE("check_cut lists the cuts and what each is after") {
    const ModelDefinition definition = define("cnn", {1, 28, 28});
    for (const int cut : {1, 2, 3}) CHECK(definition.check_cut(cut).has_value());
    for (const int cut : {-1, 0, 4}) {
      const auto checked = definition.check_cut(cut);
      REQUIRE_FALSE(checked.has_value());
      CHECK(checked.error().code == ErrorCode::kInvalidArgument);
      CHECK(checked.error().message == "cut must be 1..3 for model cnn, got " + std::to_string(cut) +
                                           "; the cuts are 1 after conv1 (32x14x14), 2 after conv2 (64x7x7), "
                                           "3 after fc1 (128)");
    }
  }

  TEST_CASE("block numbers out of range throw") {
    const ModelDefinition definition = define("cnn", {1, 28, 28});
    CHECK_THROWS_WITH_AS((void)definition.build(1, 2, 5),
                         "ModelDefinition.build needs 0 <= first < last <= 4, got [2, 5)",
                         std::invalid_argument);
    CHECK_THROWS_WITH_AS((void)definition.block(4), "ModelDefinition.block needs 0 <= index < 4, got 4",
                         std::invalid_argument);
  }
}

}  // namespace tandem
