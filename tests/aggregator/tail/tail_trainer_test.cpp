#include "tandem/aggregator/tail/tail_trainer.h"

#include <cmath>
//
#include "support/test.h"

using namespace tandem;
using namespace tandem::aggregator;

namespace {

ModelPart make_tail(const std::string& model = "mlp:hidden=8") {
  const auto definition = define_model(model, {1, 4, 4}, 3);
  return definition->build(5, 1, definition->num_blocks());
}

ClientActivations client(const std::string& name, int64_t examples, uint64_t seed, double scale = 1.0) {
  torch::manual_seed(seed);
  return {.client = {name},
          .activations = at::randn({examples, 8}) * scale,
          .labels = at::randint(0, 3, {examples}, at::kLong)};
}

TailTrainerOptions sgd(double learning_rate = 0.1) {
  return {.optimizer = {.optimizer = {.learning_rate = learning_rate}}};
}

}  // namespace

TEST_SUITE("aggregator/tail/tail_trainer") {
  TEST_CASE("each client receives the gradient of its own mean loss") {
    TailTrainer trainer(make_tail(), sgd());
    const auto ann = client("ann", 5, 1), bob = client("bob", 3, 2);
    const auto results = trainer.step({ann, bob});
    REQUIRE(results.size() == 2);
    for (const auto& [sent, result] : {std::pair{ann, results[0]}, std::pair{bob, results[1]}}) {
      // Independently: that client alone through the tail as it was before the step.
      ModelPart tail = make_tail();
      const at::Tensor leaf = sent.activations.clone().requires_grad_();
      const at::Tensor loss = torch::cross_entropy_loss(tail.forward(leaf), sent.labels);
      loss.backward();
      CHECK(result.client == sent.client);
      CHECK(at::allclose(result.gradient, leaf.grad(), 1e-5, 1e-7));
      CHECK(result.figures.mean_loss() == doctest::Approx(loss.item<double>()).epsilon(1e-6));
      CHECK(static_cast<int64_t>(result.figures.correct) ==
            tail.forward(sent.activations).argmax(1).eq(sent.labels).sum().item<int64_t>());
    }
  }

  TEST_CASE("the tail makes one step on the mean loss of the joined batch") {
    ModelPart tail = make_tail();
    TailTrainer trainer(tail, sgd(0.1));
    const auto ann = client("ann", 5, 1), bob = client("bob", 3, 2);
    ModelPart expected = make_tail();
    torch::cross_entropy_loss(expected.forward(at::cat({ann.activations, bob.activations})),
                              at::cat({ann.labels, bob.labels}))
        .backward();
    (void)trainer.step({ann, bob});
    const auto after = tail.parameters();
    const auto before = expected.parameters();
    for (size_t i = 0; i < after.size(); ++i) {
      CHECK(at::allclose(after[i].tensor, before[i].tensor - 0.1 * before[i].tensor.grad(), 1e-5, 1e-7));
    }
    CHECK(trainer.applied_steps() == 1);
  }

  TEST_CASE("a client whose loss is far off is taken out, and the step equals one without it") {
    ModelPart with = make_tail(), without = make_tail();
    TailTrainer disturbed(with, sgd()), undisturbed(without, sgd());
    const auto ann = client("ann", 5, 1), bob = client("bob", 3, 2), mallory = client("mallory", 4, 3, 1e30);
    const auto results = disturbed.step({ann, bob, mallory});
    (void)undisturbed.step({ann, bob});
    CHECK(results[2].rejection.find("its mean loss is") == 0);
    CHECK_FALSE(results[2].gradient.defined());
    CHECK(results[0].rejection.empty());
    for (size_t i = 0; i < with.parameters().size(); ++i) {
      CHECK(at::equal(with.parameters()[i].tensor, without.parameters()[i].tensor));
      CHECK(at::isfinite(with.parameters()[i].tensor).all().item<bool>());
    }
  }

  TEST_CASE("a pass that is thrown away does not move batch-norm statistics") {
    const auto definition = define_model("resnet18:norm=batch,width=8", {1, 8, 8}, 3);
    ModelPart with = definition->build(5, 1, 10), without = definition->build(5, 1, 10);
    TailTrainer disturbed(with, sgd()), undisturbed(without, sgd());
    const auto images = [](const std::string& name, double scale) {
      torch::manual_seed(8);
      return ClientActivations{.client = {name},
                               .activations = at::randn({4, 8, 8, 8}) * scale,
                               .labels = at::zeros({4}, at::kLong)};
    };
    auto bad = images("mallory", 1);
    bad.activations.index_put_({0}, std::nan(""));
    CHECK_FALSE(disturbed.step({images("ann", 1), bad})[1].rejection.empty());
    (void)undisturbed.step({images("ann", 1)});
    // NaN spreads to everyone through the batch statistics, so everyone was taken out: nothing may move.
    for (const NamedTensor& buffer : with.buffers()) {
      CAPTURE(buffer.name);
      if (buffer.tensor.is_floating_point()) CHECK(at::isfinite(buffer.tensor).all().item<bool>());
    }
  }

  TEST_CASE("with nobody left nothing is updated") {
    ModelPart tail = make_tail();
    const NamedTensors before = snapshot(tail.state());
    TailTrainer trainer(tail, sgd());
    const auto results = trainer.step({client("mallory", 4, 3, 1e30)});
    CHECK_FALSE(results[0].rejection.empty());
    for (size_t i = 0; i < before.size(); ++i) CHECK(at::equal(before[i].tensor, tail.state()[i].tensor));
    CHECK(trainer.applied_steps() == 0);
  }

  TEST_CASE("the halves of a U-shaped step give what one step on the joined loss gives") {
    // The tail of a longer model whose head is a linear layer, which the clients have.
    const auto definition = define_model("mlp:hidden=8-6", {1, 4, 4}, 3);
    ModelPart tail = definition->build(5, 1, 2), whole = definition->build(5, 1, 3);
    const ModelPart head = definition->build(5, 2, 3);
    TailTrainer trainer(tail, sgd());
    const auto ann = client("ann", 5, 1), bob = client("bob", 3, 2);
    const std::vector<at::Tensor> outputs = trainer.forward({ann, bob});
    REQUIRE(outputs.size() == 2);
    std::vector<at::Tensor> gradients;
    for (const auto& [sent, output] : {std::pair{ann, outputs[0]}, std::pair{bob, outputs[1]}}) {
      CHECK(output.sizes() == at::IntArrayRef({sent.examples(), 6}));
      const at::Tensor leaf = output.clone().requires_grad_();
      torch::cross_entropy_loss(head.forward(leaf), sent.labels).backward();
      gradients.push_back(leaf.grad());
    }
    const std::vector<at::Tensor> results = trainer.backward(gradients);
    const at::Tensor leaf = at::cat({ann.activations, bob.activations}).requires_grad_();
    torch::cross_entropy_loss(whole.forward(leaf), at::cat({ann.labels, bob.labels})).backward();
    CHECK(at::allclose(results[0], leaf.grad().narrow(0, 0, 5) * 8.0 / 5.0, 1e-5, 1e-7));
    CHECK(at::allclose(results[1], leaf.grad().narrow(0, 5, 3) * 8.0 / 3.0, 1e-5, 1e-7));
    const NamedTensors before = whole.parameters();
    for (size_t i = 0; i < tail.parameters().size(); ++i) {
      CHECK(at::allclose(tail.parameters()[i].tensor, before[i].tensor - 0.1 * before[i].tensor.grad(), 1e-5,
                         1e-7));
    }
  }

  TEST_CASE("a client whose output gradient is missing does not move a U-shaped tail") {
    const auto definition = define_model("mlp:hidden=8-6", {1, 4, 4}, 3);
    ModelPart with = definition->build(5, 1, 2), without = definition->build(5, 1, 2);
    TailTrainer disturbed(with, sgd()), undisturbed(without, sgd());
    const auto ann = client("ann", 5, 1), bob = client("bob", 3, 2);
    (void)disturbed.forward({ann, bob});
    (void)undisturbed.forward({ann});
    const at::Tensor gradient = at::ones({5, 6}) / 5;
    const auto results = disturbed.backward({gradient, at::Tensor()});
    const auto alone = undisturbed.backward({gradient});
    CHECK_FALSE(results[1].defined());
    CHECK(at::allclose(results[0], alone[0], 1e-5, 1e-7));
    for (size_t i = 0; i < with.parameters().size(); ++i) {
      CHECK(at::allclose(with.parameters()[i].tensor, without.parameters()[i].tensor, 1e-5, 1e-7));
    }
    (void)disturbed.forward({ann});
    CHECK_FALSE(disturbed.backward({at::Tensor()})[0].defined());
    CHECK(disturbed.applied_steps() == 1);
  }
}
