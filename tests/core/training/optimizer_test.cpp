#include "tandem/core/training/optimizer.h"

#include <cmath>
#include <functional>
#include <limits>

#include "support/test.h"

namespace tandem {
namespace {

using Reference = std::function<std::unique_ptr<torch::optim::Optimizer>(std::vector<at::Tensor>)>;

/// Two layers with known weights; the same for the same seed.
NamedTensors make_parameters(uint64_t seed) {
  auto generator = at::detail::createCPUGenerator(seed);
  NamedTensors parameters{{"0.0.weight", torch::randn({5, 6}, generator)},
                          {"0.0.bias", torch::randn({5}, generator)},
                          {"1.0.weight", torch::randn({3, 5}, generator)}};
  for (NamedTensor& entry : parameters) entry.tensor.requires_grad_();
  return parameters;
}

/// Fills in the gradients of a small network on data that depends on the step only; every fourth step's are
/// small, so that clipping has steps to leave alone.
void backward(const NamedTensors& parameters, uint64_t step) {
  auto generator = at::detail::createCPUGenerator(1000 + step);
  const at::Tensor x = torch::randn({8, 6}, generator);
  for (const NamedTensor& entry : parameters) entry.tensor.mutable_grad().reset();
  const at::Tensor hidden = at::tanh(at::linear(x, parameters[0].tensor, parameters[1].tensor));
  const double scale = step % 4 == 3 ? 0.01 : 1.0;
  (at::linear(hidden, parameters[2].tensor).square().mean() * scale).backward();
}

std::vector<at::Tensor> tensors(const NamedTensors& named) {
  std::vector<at::Tensor> list;
  for (const NamedTensor& entry : named) list.push_back(entry.tensor);
  return list;
}

NamedTensors one_parameter(std::vector<float> value, std::vector<float> gradient) {
  const at::Tensor parameter = torch::tensor(value).requires_grad_();
  parameter.mutable_grad() = torch::tensor(gradient);
  return {{"p", parameter}};
}

/// The values after each of `gradients`, a single number.
std::vector<double> trajectory(const OptimizerOptions& options, float start,
                               const std::vector<float>& gradients) {
  const NamedTensors parameters = one_parameter({start}, {0.0f});
  Optimizer optimizer(options, parameters);
  std::vector<double> values;
  for (const float gradient : gradients) {
    parameters[0].tensor.mutable_grad().fill_(gradient);
    optimizer.step(1.0);
    values.push_back(parameters[0].tensor.item<double>());
  }
  return values;
}

std::string mistake(const OptimizerOptions& options) {
  try {
    (void)options.validated();
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_SUITE("core/training/optimizer") {
  TEST_CASE("20 steps follow torch::optim step by step") {
    struct Case {
      std::string name;
      OptimizerOptions options;
      Reference reference;
    };
    namespace optim = torch::optim;
    const auto sgd = [](double momentum, double decay) -> Reference {
      return [=](std::vector<at::Tensor> p) {
        return std::make_unique<optim::SGD>(p, optim::SGDOptions(0.1).momentum(momentum).weight_decay(decay));
      };
    };
    const auto adam = [](double decay) -> Reference {
      return [=](std::vector<at::Tensor> p) {
        return std::make_unique<optim::Adam>(p, optim::AdamOptions(0.01).weight_decay(decay));
      };
    };
    const Reference adamw = [](std::vector<at::Tensor> p) {
      return std::make_unique<optim::AdamW>(p, optim::AdamWOptions(0.01).weight_decay(0.1));
    };
    const std::vector<Case> cases{
        {"sgd", {.learning_rate = 0.1}, sgd(0.0, 0.0)},
        {"sgd decay", {.learning_rate = 0.1, .weight_decay = 0.05}, sgd(0.0, 0.05)},
        {"sgd momentum", {.learning_rate = 0.1, .momentum = 0.9}, sgd(0.9, 0.0)},
        {"sgd momentum decay", {.learning_rate = 0.1, .momentum = 0.9, .weight_decay = 0.05}, sgd(0.9, 0.05)},
        {"sgd clip",
         {.learning_rate = 0.1, .momentum = 0.9, .weight_decay = 0.05, .clip_norm = 0.3},
         sgd(0.9, 0.05)},
        {"adam", {.kind = OptimizerKind::kAdam, .learning_rate = 0.01}, adam(0.0)},
        {"adam decay",
         {.kind = OptimizerKind::kAdam, .learning_rate = 0.01, .weight_decay = 0.05},
         adam(0.05)},
        {"adam clip", {.kind = OptimizerKind::kAdam, .learning_rate = 0.01, .clip_norm = 0.3}, adam(0.0)},
        {"adamw", {.kind = OptimizerKind::kAdamW, .learning_rate = 0.01, .weight_decay = 0.1}, adamw},
    };
    for (const Case& c : cases) {
      const NamedTensors ours = make_parameters(4);
      const NamedTensors theirs = make_parameters(4);
      Optimizer optimizer(c.options, ours);
      const auto reference = c.reference(tensors(theirs));
      int clipped = 0;
      for (uint64_t step = 0; step < 20; ++step) {
        CAPTURE(c.name);
        CAPTURE(step);
        const double factor = 1.0 / static_cast<double>(1 + step % 3);
        reference->param_groups()[0].options().set_lr(c.options.learning_rate * factor);
        backward(ours, step);
        backward(theirs, step);
        if (c.options.clip_norm > 0.0) {
          clipped +=
              torch::nn::utils::clip_grad_norm_(tensors(theirs), c.options.clip_norm) > c.options.clip_norm;
        }
        optimizer.step(factor);
        reference->step();
        for (size_t i = 0; i < ours.size(); ++i) {
          CHECK(at::allclose(ours[i].tensor, theirs[i].tensor, 1e-6, 1e-7));
          if (c.options.kind == OptimizerKind::kSgd) CHECK(at::equal(ours[i].tensor, theirs[i].tensor));
        }
      }
      if (c.options.clip_norm > 0.0) {
        CHECK(clipped > 0);
        CHECK(clipped < 20);
      }
      CHECK(optimizer.applied_steps() == 20);
    }
  }

  TEST_CASE("SGD, computed by hand") {
    CHECK(trajectory({.learning_rate = 0.1}, 1.0f, {0.5f})[0] == doctest::Approx(0.95));
    // d = 0.5 + 0.1 * 1 = 0.6, p = 0.94; d = 0.5 + 0.094, buf = 0.9 * 0.6 + 0.594 = 1.134, p = 0.8266.
    const auto values =
        trajectory({.learning_rate = 0.1, .momentum = 0.9, .weight_decay = 0.1}, 1.0f, {0.5f, 0.5f});
    CHECK(values[0] == doctest::Approx(0.94));
    CHECK(values[1] == doctest::Approx(0.8266));
  }

  TEST_CASE("Adam and AdamW, computed by hand") {
    // The first step moves by the learning rate, whatever the gradient: m^ = g, v^ = g^2.
    CHECK(trajectory({.kind = OptimizerKind::kAdam, .learning_rate = 0.1}, 1.0f, {0.5f})[0] ==
          doctest::Approx(0.9));
    CHECK(trajectory({.kind = OptimizerKind::kAdamW, .learning_rate = 0.1, .weight_decay = 0.1}, 1.0f,
                     {0.5f})[0] == doctest::Approx(1.0 * (1.0 - 0.01) - 0.1));
    // The second step, gradient -1: both means with their bias corrections, from the definition.
    const double m = (0.9 * 0.1 * 0.5 - 0.1 * 1.0) / (1.0 - 0.81);
    const double v = (0.999 * 0.001 * 0.25 + 0.001 * 1.0) / (1.0 - 0.999 * 0.999);
    CHECK(trajectory({.kind = OptimizerKind::kAdam, .learning_rate = 0.1}, 1.0f, {0.5f, -1.0f})[1] ==
          doctest::Approx(0.9 - 0.1 * m / (std::sqrt(v) + 1e-8)).epsilon(1e-6));
  }

  TEST_CASE("clipping scales by the norm over all parameters, only when it is above the bound") {
    const NamedTensors parameters{one_parameter({0.0f}, {3.0f})[0], one_parameter({0.0f}, {4.0f})[0]};
    NamedTensors named = parameters;
    named[1].name = "q";
    Optimizer tight({.learning_rate = 1.0, .clip_norm = 1.0}, named);
    tight.step(1.0);
    CHECK(named[0].tensor.item<double>() == doctest::Approx(-0.6));
    CHECK(named[1].tensor.item<double>() == doctest::Approx(-0.8));
    Optimizer loose({.learning_rate = 1.0, .clip_norm = 6.0}, named);
    loose.step(1.0);
    CHECK(named[0].tensor.item<double>() == doctest::Approx(-3.6));
    CHECK(named[1].tensor.item<double>() == doctest::Approx(-4.8));
  }

  TEST_CASE("gradients are read, never written") {
    for (const auto kind : {OptimizerKind::kSgd, OptimizerKind::kAdam, OptimizerKind::kAdamW}) {
      CAPTURE(optimizer_name(kind));
      const NamedTensors parameters = make_parameters(4);
      Optimizer optimizer({.kind = kind, .momentum = 0.9, .weight_decay = 0.1, .clip_norm = 0.01},
                          parameters);
      for (uint64_t step = 0; step < 3; ++step) {
        backward(parameters, step);
        std::vector<at::Tensor> before;
        for (const NamedTensor& entry : parameters) before.push_back(entry.tensor.grad().clone());
        optimizer.step(1.0);
        for (size_t i = 0; i < before.size(); ++i) CHECK(at::equal(before[i], parameters[i].tensor.grad()));
      }
    }
  }

  TEST_CASE("a parameter without a gradient is left alone and gets no state") {
    const NamedTensors parameters = make_parameters(4);
    backward(parameters, 0);
    parameters[1].tensor.mutable_grad().reset();
    const NamedTensors before = snapshot(parameters);
    Optimizer optimizer({.momentum = 0.9, .weight_decay = 0.1}, parameters);
    optimizer.step(1.0);
    CHECK(at::equal(before[1].tensor, parameters[1].tensor));
    CHECK_FALSE(at::equal(before[0].tensor, parameters[0].tensor));
    const NamedTensors state = optimizer.state();
    REQUIRE(state.size() == 3);
    CHECK(state[0].name == "0.0.weight.momentum");
    CHECK(state[1].name == "1.0.weight.momentum");
    CHECK(state[2].name == "applied_steps");
  }

  TEST_CASE("a channels-last parameter keeps its strides, and so does its state") {
    const at::Tensor kernel =
        torch::rand({4, 1, 3, 3}).as_strided({4, 1, 3, 3}, {9, 1, 3, 1}).detach().requires_grad_();
    kernel.mutable_grad() = torch::ones({4, 1, 3, 3});
    Optimizer optimizer({.kind = OptimizerKind::kAdam, .weight_decay = 0.1}, {{"w", kernel}});
    optimizer.step(1.0);
    CHECK(kernel.strides().vec() == std::vector<int64_t>{9, 1, 3, 1});
    CHECK(optimizer.state()[0].tensor.strides().vec() == std::vector<int64_t>{9, 1, 3, 1});
  }

  TEST_CASE("state names are stable, and nothing is there before the first step") {
    const NamedTensors parameters = make_parameters(4);
    Optimizer optimizer({.kind = OptimizerKind::kAdamW}, parameters);
    REQUIRE(optimizer.state().size() == 1);
    CHECK(optimizer.state()[0].tensor.item<int64_t>() == 0);
    backward(parameters, 0);
    optimizer.step(1.0);
    const NamedTensors state = optimizer.state();
    REQUIRE(state.size() == 7);
    CHECK(state[0].name == "0.0.weight.exp_avg");
    CHECK(state[1].name == "0.0.weight.exp_avg_sq");
    CHECK(state[5].name == "1.0.weight.exp_avg_sq");
    CHECK(state[6].name == "applied_steps");
    CHECK((state[6].tensor.scalar_type() == torch::kLong));
    CHECK(state[6].tensor.item<int64_t>() == 1);
  }

  TEST_CASE("training goes on bit for bit from a loaded state") {
    for (const auto kind : {OptimizerKind::kSgd, OptimizerKind::kAdam, OptimizerKind::kAdamW}) {
      CAPTURE(optimizer_name(kind));
      const OptimizerOptions options{
          .kind = kind, .learning_rate = 0.01, .momentum = 0.9, .weight_decay = 0.1};
      const NamedTensors original = make_parameters(4);
      Optimizer first(options, original);
      for (uint64_t step = 0; step < 5; ++step) {
        backward(original, step);
        first.step(1.0);
      }
      NamedTensors resumed = snapshot(original);
      for (NamedTensor& entry : resumed) entry.tensor.requires_grad_();
      Optimizer second(options, resumed);
      NamedTensors saved = snapshot(first.state());
      REQUIRE(second.load_state(saved).has_value());
      for (NamedTensor& entry : saved) entry.tensor.zero_();  // the optimiser has its own copy
      CHECK(second.applied_steps() == 5);
      for (uint64_t step = 5; step < 10; ++step) {
        backward(original, step);
        backward(resumed, step);
        first.step(0.5);
        second.step(0.5);
      }
      for (size_t i = 0; i < original.size(); ++i) CHECK(at::equal(original[i].tensor, resumed[i].tensor));
    }
  }

  TEST_CASE("load_state refuses what does not fit, names it and changes nothing") {
    const NamedTensors parameters = make_parameters(4);
    Optimizer optimizer({.kind = OptimizerKind::kAdam}, parameters);
    backward(parameters, 0);
    optimizer.step(1.0);
    const NamedTensors good = snapshot(optimizer.state());
    const auto refused = [&](const NamedTensors& state) -> std::string {
      const auto loaded = optimizer.load_state(state);
      REQUIRE_FALSE(loaded.has_value());
      CHECK(loaded.error().code == ErrorCode::kShapeMismatch);
      CHECK(optimizer.applied_steps() == 1);
      CHECK(at::equal(optimizer.state()[0].tensor, good[0].tensor));
      return loaded.error().message;
    };
    NamedTensors renamed = good;
    renamed[0].name = "0.0.weight.momentum";
    CHECK(refused(renamed) ==
          "optimizer state: 0.0.weight.momentum belongs to no parameter of this adam optimizer");
    NamedTensors reshaped = good;
    reshaped[3].tensor = torch::zeros({6});
    CHECK(refused(reshaped) ==
          "optimizer state: tensor 1 of 1: expected 0.0.bias.exp_avg_sq (Float [5]), got 0.0.bias.exp_avg_sq "
          "(Float [6])");
    NamedTensors half = good;
    half.erase(half.begin() + 2);
    CHECK(refused(half) == "optimizer state: only one of exp_avg and exp_avg_sq is there for 0.0.bias");
    NamedTensors uncounted = good;
    uncounted.pop_back();
    CHECK(refused(uncounted) == "optimizer state: applied_steps must be there and >= 0");
    CHECK(refused({{"applied_steps", torch::tensor(int64_t{-1})}}) ==
          "optimizer state: applied_steps must be there and >= 0");
    CHECK(optimizer.load_state(good).has_value());
  }

  TEST_CASE("validated names the first bad field, its value and the rule") {
    const double nan = std::numeric_limits<double>::quiet_NaN();
    CHECK(mistake({}).empty());
    CHECK(mistake({.learning_rate = 0.0}) == "OptimizerOptions.learning_rate must be > 0 and finite, got 0");
    CHECK(mistake({.learning_rate = nan}) ==
          "OptimizerOptions.learning_rate must be > 0 and finite, got nan");
    CHECK(mistake({.momentum = 1.0}) == "OptimizerOptions.momentum must be in [0, 1), got 1");
    CHECK(mistake({.weight_decay = -0.5}) ==
          "OptimizerOptions.weight_decay must be >= 0 and finite, got -0.5");
    CHECK(mistake({.beta1 = 1.0}) == "OptimizerOptions.beta1 must be in [0, 1), got 1");
    CHECK(mistake({.beta2 = -0.1}) == "OptimizerOptions.beta2 must be in [0, 1), got -0.1");
    CHECK(mistake({.epsilon = 0.0}) == "OptimizerOptions.epsilon must be > 0 and finite, got 0");
    CHECK(mistake({.clip_norm = -1.0}) == "OptimizerOptions.clip_norm must be >= 0 and finite, got -1");
    CHECK(mistake({.kind = static_cast<OptimizerKind>(7)}) ==
          "OptimizerOptions.kind must be 0 (sgd), 1 (adam) or 2 (adamw), got 7");
  }

  TEST_CASE("misuse throws") {
    CHECK_THROWS_AS(Optimizer({.learning_rate = -1.0}, make_parameters(1)), std::invalid_argument);
    Optimizer optimizer({}, make_parameters(1));
    CHECK_THROWS_WITH_AS(optimizer.step(-1.0),
                         "Optimizer.step: lr_factor must be >= 0 and finite, got -1.000000",
                         std::invalid_argument);
  }

  TEST_CASE("names are those of the flags") {
    CHECK(std::string(optimizer_name(OptimizerKind::kSgd)) == "sgd");
    CHECK(std::string(optimizer_name(OptimizerKind::kAdam)) == "adam");
    CHECK(std::string(optimizer_name(OptimizerKind::kAdamW)) == "adamw");
  }
}

}  // namespace tandem
