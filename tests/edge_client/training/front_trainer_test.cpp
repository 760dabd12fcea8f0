#include "tandem/edge_client/training/front_trainer.h"

#include <cmath>
#include <stdexcept>
//
#include "support/test.h"

using namespace tandem;
using namespace tandem::edge_client;

namespace {

ModelPart make_front() {
  return define_model("cnn", {1, 8, 8}, 3)->build(5, 0, 1);
}
FrontTrainerOptions sgd(uint32_t window = 1) {
  return {.optimizer = {.optimizer = {.learning_rate = 0.1}}, .window = window};
}
at::Tensor inputs(uint64_t seed) {
  torch::manual_seed(seed);
  return at::rand({4, 1, 8, 8});
}

}  // namespace

TEST_SUITE("edge_client/training/front_trainer") {
  TEST_CASE("a step applies the gradient at the cut through the front") {
    ModelPart front = make_front(), expected = make_front();
    FrontTrainer trainer(front, sgd());
    const at::Tensor smashed = trainer.forward(inputs(1));
    CHECK(smashed.sizes() == at::IntArrayRef({4, 32, 4, 4}));
    CHECK_FALSE(smashed.requires_grad());
    const at::Tensor gradient = at::ones_like(smashed);
    REQUIRE(trainer.apply(gradient).has_value());
    expected.forward(inputs(1)).backward(gradient);
    for (size_t i = 0; i < front.parameters().size(); ++i) {
      const at::Tensor before = expected.parameters()[i].tensor;
      CHECK(at::allclose(front.parameters()[i].tensor, before - 0.1 * before.grad(), 1e-6, 1e-7));
    }
  }

  TEST_CASE("open steps keep the weights they were computed with") {
    ModelPart front = make_front();
    FrontTrainer trainer(front, sgd(2));
    const at::Tensor first = trainer.forward(inputs(1));
    const at::Tensor second = trainer.forward(inputs(2));
    CHECK(trainer.open_steps() == 2);
    REQUIRE(trainer.apply(at::ones_like(first)).has_value());
    // The second step's gradient is taken at the weights of its forward pass, not at the moved ones.
    ModelPart original = make_front();
    original.forward(inputs(2)).backward(at::ones_like(second));
    const NamedTensors moved = snapshot(front.parameters());
    REQUIRE(trainer.apply(at::ones_like(second)).has_value());
    for (size_t i = 0; i < moved.size(); ++i) {
      CHECK(at::allclose(front.parameters()[i].tensor,
                         moved[i].tensor - 0.1 * original.parameters()[i].tensor.grad(), 1e-6, 1e-7));
    }
  }

  TEST_CASE("more open steps than the window, or an answer without a step, are the caller's mistakes") {
    FrontTrainer trainer(make_front(), sgd(1));
    CHECK_THROWS_AS(trainer.skip(), std::logic_error);
    (void)trainer.forward(inputs(1));
    CHECK_THROWS_AS(trainer.forward(inputs(2)), std::logic_error);
    CHECK_THROWS_AS(FrontTrainer(make_front(), sgd(0)), std::invalid_argument);
  }

  TEST_CASE("a gradient that does not fit leaves the weights alone") {
    ModelPart front = make_front();
    const NamedTensors before = snapshot(front.state());
    FrontTrainer trainer(front, sgd());
    const at::Tensor smashed = trainer.forward(inputs(1));
    const auto wrong_shape = trainer.apply(at::ones({4, 32, 4, 5}));
    REQUIRE_FALSE(wrong_shape.has_value());
    CHECK(wrong_shape.error().message == "the gradient has shape 4x32x4x5, expected 4x32x4x4 float32");
    const auto not_finite = trainer.apply(at::full_like(smashed, std::nan("")));
    REQUIRE_FALSE(not_finite.has_value());
    CHECK(not_finite.error().message == "the gradient holds NaN or infinity");
    for (size_t i = 0; i < before.size(); ++i) CHECK(at::equal(before[i].tensor, front.state()[i].tensor));
  }

  TEST_CASE("a skipped step moves nothing and the next one goes on") {
    ModelPart front = make_front();
    const NamedTensors before = snapshot(front.state());
    FrontTrainer trainer(front, sgd());
    (void)trainer.forward(inputs(1));
    trainer.skip();
    for (size_t i = 0; i < before.size(); ++i) CHECK(at::equal(before[i].tensor, front.state()[i].tensor));
    const at::Tensor smashed = trainer.forward(inputs(1));
    CHECK(trainer.apply(at::ones_like(smashed)).has_value());
  }
}
