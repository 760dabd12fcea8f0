#include "tandem/core/training/drift_correction.h"

#include <cmath>
#include <limits>

#include "support/test.h"
#include "tandem/core/training/optimizer.h"

namespace tandem {
namespace {

at::Tensor parameter(std::vector<float> values) {
  return torch::tensor(values).requires_grad_();
}

void set_gradient(const at::Tensor& parameter, std::vector<float> values) {
  parameter.mutable_grad() = torch::tensor(values);
}

void set_weight(const at::Tensor& parameter, std::vector<float> values) {
  const torch::NoGradGuard no_grad;
  parameter.copy_(torch::tensor(values));
}

void check_close(const at::Tensor& found, std::vector<float> expected) {
  CAPTURE(found);
  CHECK(at::allclose(found, torch::tensor(expected), 1e-6, 1e-6));
}

}  // namespace

TEST_SUITE("core/training/drift_correction") {
  TEST_CASE("FedProx adds mu times the distance from the merged weights to the gradient") {
    const at::Tensor w = parameter({1, -2});
    DriftCorrection correction({.proximal_mu = 0.5}, {{"w", w}});
    REQUIRE(correction.active());
    REQUIRE(correction.begin_round({}).has_value());
    set_weight(w, {3, -1});
    set_gradient(w, {10, 20});
    correction.correct(0.1);
    check_close(w.grad(), {11, 20.5});  // + 0.5 * (2, 1)
    CHECK(correction.end_round().empty());
    CHECK(correction.state().empty());

    REQUIRE(correction.begin_round({}).has_value());  // (3, -1) is the anchor now
    set_weight(w, {3, 1});
    set_gradient(w, {0, 0});
    correction.correct(0.1);
    check_close(w.grad(), {0, 1});
  }

  TEST_CASE("FedProx's addition is the gradient of (mu/2) |w - w_global|^2") {
    const at::Tensor w = parameter({1, -2, 0.5});
    const at::Tensor anchor = w.detach().clone();
    DriftCorrection correction({.proximal_mu = 0.3}, {{"w", w}});
    REQUIRE(correction.begin_round({}).has_value());
    set_weight(w, {0.25, 4, 1.5});
    set_gradient(w, {0, 0, 0});
    correction.correct(0.1);
    const at::Tensor leaf = w.detach().clone().requires_grad_();
    ((leaf - anchor).square().sum() * (0.3 / 2)).backward();
    CHECK(at::allclose(w.grad(), leaf.grad(), 1e-5, 1e-6));
  }

  TEST_CASE("FedProx leaves the gradient as it is, to the bit, where the weights are the merged ones") {
    const at::Tensor w = torch::linspace(-3, 3, 1001).requires_grad_();
    const at::Tensor gradient = torch::linspace(1e-7, 1e-2, 1001);
    DriftCorrection correction({.proximal_mu = 0.1}, {{"w", w}});
    REQUIRE(correction.begin_round({}).has_value());
    w.mutable_grad() = gradient.clone();
    correction.correct(0.1);
    CHECK(at::equal(w.grad(), gradient));
  }

  TEST_CASE("SCAFFOLD leaves the gradient as it is, to the bit, where the device's control is the server's") {
    const at::Tensor w = torch::zeros({1001}).requires_grad_();
    const at::Tensor control = torch::linspace(-3, 3, 1001), gradient = torch::linspace(1e-7, 1e-2, 1001);
    DriftCorrection correction({.control_variates = true}, {{"w", w}});
    REQUIRE(correction.load_state({{"control.w", control}}).has_value());
    REQUIRE(correction.begin_round({{"w", control}}).has_value());
    w.mutable_grad() = gradient.clone();
    correction.correct(0.1);
    CHECK(at::equal(w.grad(), gradient));
  }

  TEST_CASE("SCAFFOLD over two rounds is what a hand computes") {
    const at::Tensor w = parameter({1, 2});
    DriftCorrection correction({.control_variates = true}, {{"w", w}});
    check_close(correction.state()[0].tensor, {0, 0});

    REQUIRE(correction.begin_round({}).has_value());  // c = c_k = 0
    set_gradient(w, {4, 5});
    correction.correct(0.1);
    check_close(w.grad(), {4, 5});
    correction.correct(0.3);
    set_weight(w, {0.6, 2.2});
    NamedTensors change = correction.end_round();  // (1 - 0.6, 2 - 2.2) / 0.4
    REQUIRE(change.size() == 1);
    CHECK(change[0].name == "w");
    check_close(change[0].tensor, {1, -0.5});
    check_close(correction.state()[0].tensor, {1, -0.5});
    CHECK(correction.state()[0].name == "control.w");

    set_weight(w, {10, 20});  // merged
    const NamedTensors server{{"other", torch::ones({7})}, {"w", torch::tensor({0.25f, 2.0f})}};
    REQUIRE(correction.begin_round(server).has_value());
    server[1].tensor.fill_(99);  // it was copied
    set_gradient(w, {4, 5});
    correction.correct(0.5);
    check_close(w.grad(), {3.25, 7.5});  // + c - c_k = (-0.75, 2.5)
    set_weight(w, {9, 19.5});
    change = correction.end_round();
    check_close(change[0].tensor, {1.75, -1});  // -c + (1, 0.5) / 0.5
    check_close(correction.state()[0].tensor, {2.75, -1.5});
  }

  TEST_CASE("with plain SGD on a constant gradient g the control becomes g, whatever c, c_k and the rates") {
    const at::Tensor w = parameter({1, -1, 2});
    const NamedTensors parameters{{"w", w}};
    DriftCorrection correction({.control_variates = true}, parameters);
    Optimizer optimizer({.kind = OptimizerKind::kSgd, .learning_rate = 0.05}, parameters);
    const std::vector<std::vector<float>> gradients{{0.5, -3, 7}, {2, 1, -4}};
    NamedTensors server{{"w", torch::tensor({0.3f, -0.7f, 1.1f})}};
    for (const auto& g : gradients) {
      const at::Tensor before = correction.state()[0].tensor;
      REQUIRE(correction.begin_round(server).has_value());
      for (const double factor : {1.0, 0.5, 0.25, 2.0}) {
        set_gradient(w, g);
        correction.correct(0.05 * factor);
        optimizer.step(factor);
      }
      const NamedTensors change = correction.end_round();
      CHECK(at::allclose(correction.state()[0].tensor, torch::tensor(g), 1e-4, 1e-4));
      CHECK(at::allclose(before + change[0].tensor, correction.state()[0].tensor, 1e-6, 1e-6));
    }
  }

  TEST_CASE("FedProx and SCAFFOLD add up") {
    const at::Tensor w = parameter({1});
    DriftCorrection correction({.proximal_mu = 2, .control_variates = true}, {{"w", w}});
    REQUIRE(correction.begin_round({{"w", torch::tensor({5.0f})}}).has_value());
    set_weight(w, {4});
    set_gradient(w, {100});
    correction.correct(0.1);
    check_close(w.grad(), {111});  // 100 + 2 * 3 + 5
  }

  TEST_CASE("a parameter without a gradient is left alone") {
    const at::Tensor w = parameter({1}), frozen = torch::tensor({3.0f});
    DriftCorrection correction({.proximal_mu = 1, .control_variates = true}, {{"f", frozen}, {"w", w}});
    REQUIRE(correction.begin_round({}).has_value());
    set_gradient(w, {1});
    correction.correct(0.1);
    CHECK_FALSE(frozen.grad().defined());
    check_close(correction.end_round()[0].tensor, {0});
  }

  TEST_CASE("without options nothing is done") {
    const at::Tensor w = parameter({1});
    DriftCorrection correction({}, {{"w", w}});
    CHECK_FALSE(correction.active());
    REQUIRE(correction.begin_round({{"w", torch::ones({9})}}).has_value());
    set_gradient(w, {1});
    set_weight(w, {5});
    correction.correct(0.1);
    CHECK(w.grad().item<float>() == 1.0f);
    CHECK(correction.end_round().empty());
    CHECK(correction.load_state({}).has_value());
  }

  TEST_CASE("a round without a step returns nothing and keeps the control") {
    const at::Tensor w = parameter({1});
    DriftCorrection correction({.control_variates = true}, {{"w", w}});
    REQUIRE(correction.load_state({{"control.w", torch::tensor({2.0f})}}).has_value());
    CHECK(correction.end_round().empty());
    REQUIRE(correction.begin_round({}).has_value());
    CHECK(correction.end_round().empty());
    REQUIRE(correction.begin_round({}).has_value());
    correction.correct(0);
    CHECK(correction.end_round().empty());
    check_close(correction.state()[0].tensor, {2});
  }

  TEST_CASE("a restored state continues bit for bit, and is a copy") {
    const at::Tensor a = parameter({1, 2}), b = parameter({1, 2});
    DriftCorrection first({.control_variates = true}, {{"w", a}});
    DriftCorrection second({.control_variates = true}, {{"w", b}});
    REQUIRE(first.begin_round({}).has_value());
    set_weight(a, {0.3, 0.7});
    first.correct(0.1);
    (void)first.end_round();
    const NamedTensors saved = snapshot(first.state());
    REQUIRE(second.load_state(saved).has_value());
    saved[0].tensor.zero_();
    set_weight(b, {0.3, 0.7});
    for (DriftCorrection* correction : {&first, &second}) {
      REQUIRE(correction->begin_round({{"w", torch::tensor({0.1f, 0.2f})}}).has_value());
    }
    for (const at::Tensor& w : {a, b}) set_gradient(w, {1, 1});
    first.correct(0.1);
    second.correct(0.1);
    CHECK(at::equal(a.grad(), b.grad()));
    CHECK(a.grad()[0].item<float>() != 1.0f);
  }

  TEST_CASE("what does not fit is refused by name, and nothing has changed") {
    const at::Tensor w = parameter({1, 2});
    DriftCorrection correction({.control_variates = true}, {{"w", w}});
    const float nan = std::numeric_limits<float>::quiet_NaN();
    REQUIRE(correction.begin_round({{"w", torch::tensor({1.0f, 1.0f})}}).has_value());
    const auto missing = correction.begin_round({{"v", torch::ones({2})}});
    REQUIRE_FALSE(missing.has_value());
    CHECK(missing.error().code == ErrorCode::kShapeMismatch);
    CHECK(missing.error().message ==
          "server control: tensor 1 of 1: expected w (Float [2]), got w (undefined)");
    const auto wrong = correction.begin_round({{"w", torch::ones({3})}});
    REQUIRE_FALSE(wrong.has_value());
    CHECK(wrong.error().message ==
          "server control: tensor 1 of 1: expected w (Float [2]), got w (Float [3])");
    const auto infinite = correction.begin_round({{"w", torch::tensor({1.0f, nan})}});
    REQUIRE_FALSE(infinite.has_value());
    CHECK(infinite.error().code == ErrorCode::kNonFinite);
    CHECK(infinite.error().message == "server control: tensor w holds NaN or infinity");
    set_gradient(w, {0, 0});
    correction.correct(0.1);
    check_close(w.grad(), {1, 1});  // still the first server control

    const auto state = correction.load_state({});
    REQUIRE_FALSE(state.has_value());
    CHECK(state.error().code == ErrorCode::kShapeMismatch);
    CHECK(state.error().message ==
          "drift correction state: tensor 1 of 1: expected control.w (Float [2]), got none");
    CHECK(correction.load_state({{"control.w", torch::tensor({nan, 1.0f})}}).error().code ==
          ErrorCode::kNonFinite);
    check_close(correction.state()[0].tensor, {0, 0});
  }

  TEST_CASE("misuse throws and says what") {
    const at::Tensor w = parameter({1});
    CHECK_THROWS_WITH_AS(DriftCorrection({.proximal_mu = -1}, {{"w", w}}),
                         "DriftCorrectionOptions.proximal_mu must be >= 0 and finite, got -1.000000",
                         std::invalid_argument);
    DriftCorrection correction({.proximal_mu = 1}, {{"w", w}});
    CHECK_THROWS_WITH_AS(correction.correct(0.1), "DriftCorrection.correct is called outside a round",
                         std::logic_error);
    REQUIRE(correction.begin_round({}).has_value());
    CHECK_THROWS_WITH_AS(correction.correct(-0.1),
                         "DriftCorrection.correct: learning_rate must be >= 0 and finite, got -0.100000",
                         std::invalid_argument);
    (void)correction.end_round();
    CHECK_THROWS_AS(correction.correct(0.1), std::logic_error);
  }
}

}  // namespace tandem
