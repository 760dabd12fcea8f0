#include "tandem/core/training/stage_trainer.h"

#include <cmath>
#include <stdexcept>
//
#include "support/test.h"

using namespace tandem;

namespace {

ModelPart make_front() {
  return define_model("cnn", {1, 8, 8}, 3)->build(5, 0, 1);
}
ModelPart make_batch_norm() {
  return define_model("resnet18:width=8", {1, 8, 8}, 3)->build(5, 0, 1);
}
StageTrainerOptions sgd(uint32_t window = 1) {
  return {.optimizer = {.optimizer = {.learning_rate = 0.1}}, .window = window};
}
at::Tensor inputs(uint64_t seed) {
  torch::manual_seed(seed);
  return at::rand({4, 1, 8, 8});
}
void check_equal(const NamedTensors& expected, const NamedTensors& found) {
  REQUIRE(expected.size() == found.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    CAPTURE(expected[i].name);
    CHECK(at::equal(expected[i].tensor, found[i].tensor));
  }
}

}  // namespace

TEST_SUITE("core/training/stage_trainer") {
  TEST_CASE("a step applies the gradient of the outputs through the stage") {
    ModelPart front = make_front(), expected = make_front();
    StageTrainer trainer(front, sgd());
    const at::Tensor smashed = trainer.forward(7, inputs(1));
    CHECK(smashed.sizes() == at::IntArrayRef({4, 32, 4, 4}));
    CHECK_FALSE(smashed.requires_grad());
    const at::Tensor gradient = at::ones_like(smashed);
    CHECK_FALSE(trainer.backward(7, gradient).defined());
    expected.forward(inputs(1)).backward(gradient);
    for (size_t i = 0; i < front.parameters().size(); ++i) {
      const at::Tensor before = expected.parameters()[i].tensor;
      CHECK(at::allclose(front.parameters()[i].tensor, before - 0.1 * before.grad(), 1e-6, 1e-7));
    }
  }

  TEST_CASE("stages in a row train as the model in one piece, to the bit") {
    const ModelDefinition definition = *define_model("cnn", {1, 8, 8}, 3);
    const at::Tensor labels = at::arange(4) % 3;
    for (const uint32_t window : {1u, 3u}) {
      CAPTURE(window);
      ModelPart whole = definition.build(5);
      StageTrainer one(whole, sgd());
      ModelPart parts[] = {definition.build(5, 0, 1), definition.build(5, 1, 2), definition.build(5, 2, 4)};
      StageTrainer first(parts[0], sgd(window)), second(parts[1], sgd(window)), last(parts[2], sgd());
      for (Ticket step = 0; step < 3; ++step) {
        const Figures expected = one.train(inputs(step), labels, StageTrainer::InputGradient::kNone).figures;
        const at::Tensor middle =
            second.forward(step, first.forward(step, inputs(step)), StageTrainer::InputGradient::kWanted);
        const StageTrainer::LossStep loss = last.train(middle, labels, StageTrainer::InputGradient::kWanted);
        first.backward(step, second.backward(step, loss.input_gradient));
        CHECK((loss.figures == expected));
      }
      NamedTensors joined;
      for (const ModelPart& part : parts) append(joined, part.state());
      check_equal(whole.state(), joined);
    }
  }

  TEST_CASE("open tickets keep the weights they were computed with, and end in any order") {
    ModelPart front = make_front();
    StageTrainer trainer(front, sgd(3));
    const at::Tensor first = trainer.forward(1, inputs(1));
    const at::Tensor second = trainer.forward(2, inputs(2));
    (void)trainer.forward(3, inputs(3));
    CHECK(trainer.open_tickets() == 3);
    trainer.backward(2, at::ones_like(first));
    trainer.drop(3);
    // The first ticket's gradient is taken at the weights of its forward pass, not at the moved ones.
    ModelPart original = make_front();
    original.forward(inputs(1)).backward(at::ones_like(second));
    const NamedTensors moved = snapshot(front.parameters());
    trainer.backward(1, at::ones_like(second));
    for (size_t i = 0; i < moved.size(); ++i) {
      CHECK(at::allclose(front.parameters()[i].tensor,
                         moved[i].tensor - 0.1 * original.parameters()[i].tensor.grad(), 1e-6, 1e-7));
    }
    CHECK(trainer.open_tickets() == 0);
  }

  TEST_CASE("the caller's mistakes: more tickets than the window, one twice, one that is not open") {
    StageTrainer trainer(make_front(), sgd(2));
    CHECK_THROWS_AS(trainer.drop(0), std::logic_error);
    CHECK_THROWS_AS(trainer.backward(0, at::ones({1})), std::logic_error);
    (void)trainer.forward(0, inputs(1));
    CHECK_THROWS_AS(trainer.forward(0, inputs(2)), std::logic_error);
    CHECK_THROWS_AS(trainer.undo(0), std::logic_error);
    (void)trainer.forward(1, inputs(1));
    CHECK_THROWS_AS(trainer.forward(2, inputs(2)), std::logic_error);
    CHECK_THROWS_AS(StageTrainer(make_front(), sgd(0)), std::invalid_argument);
  }

  TEST_CASE("a gradient that does not fit is said, and the ticket stays open") {
    StageTrainer trainer(make_front(), sgd());
    const at::Tensor smashed = trainer.forward(0, inputs(1));
    const auto wrong_shape = trainer.check_gradient(0, at::ones({4, 32, 4, 5}));
    REQUIRE_FALSE(wrong_shape.has_value());
    CHECK(wrong_shape.error().message == "the gradient has shape 4x32x4x5, expected 4x32x4x4 float32");
    const auto not_finite = trainer.check_gradient(0, at::full_like(smashed, std::nan("")));
    REQUIRE_FALSE(not_finite.has_value());
    CHECK(not_finite.error().message == "the gradient holds NaN or infinity");
    CHECK(trainer.check_gradient(0, at::ones_like(smashed)).has_value());
    CHECK(trainer.open_tickets() == 1);
  }

  TEST_CASE("a dropped step moves no weight; one that is undone moves no statistics either") {
    ModelPart stage = make_batch_norm();
    const NamedTensors before = snapshot(stage.state());
    StageTrainerOptions options = sgd();
    options.keeps_statistics = true;
    StageTrainer trainer(stage, options);
    (void)trainer.forward(0, inputs(1));
    CHECK_FALSE(at::equal(before.back().tensor, stage.state().back().tensor));
    check_equal(before, trainer.settled_weights());
    trainer.undo(0);
    check_equal(before, stage.state());
    (void)trainer.forward(0, inputs(1));
    trainer.drop(0);
    CHECK_FALSE(at::equal(before.back().tensor, stage.state().back().tensor));
    check_equal(snapshot(make_batch_norm().parameters()), stage.parameters());
    const at::Tensor smashed = trainer.forward(0, inputs(1));
    trainer.backward(0, at::ones_like(smashed));
  }
}
