#include "tandem/aggregator/tail/tail_replay.h"

#include <cmath>
#include <stdexcept>
#include <string>
#include <vector>

#include "tandem/core/base/random.h"
//
#include "support/test.h"

using namespace tandem;
using namespace tandem::aggregator;

namespace {

ModelPart make_tail() {
  const auto definition = define_model("mlp:hidden=8", {1, 4, 4}, 3);
  return definition->build(5, 1, definition->num_blocks());
}

TailTrainerOptions momentum_sgd() {
  return {.optimizer = {.optimizer = {.learning_rate = 0.1, .momentum = 0.9}}, .gradients_go_back = false};
}

SmashedBatch smashed(int64_t examples, uint64_t seed) {
  torch::manual_seed(seed);
  return {.activations = at::randn({examples, 8}), .labels = at::randint(0, 3, {examples}, at::kLong)};
}

void check_equal(const NamedTensors& left, const NamedTensors& right) {
  REQUIRE(left.size() == right.size());
  for (size_t i = 0; i < left.size(); ++i) CHECK(at::equal(left[i].tensor, right[i].tensor));
}

std::string complaint(const std::vector<SmashedBatch>& batches, const ReplayOptions& options) {
  TailTrainer trainer(make_tail(), momentum_sgd());
  try {
    (void)replay(trainer, batches, options);
  } catch (const std::invalid_argument& mistake) {
    return mistake.what();
  }
  return "none";
}

}  // namespace

TEST_SUITE("aggregator/tail/tail_replay") {
  TEST_CASE("it is steps over all clients' examples, shuffled anew in each pass") {
    const SmashedBatch ann = smashed(5, 1), bob = smashed(4, 2);
    ModelPart replayed = make_tail();
    TailTrainer trainer(replayed, momentum_sgd());
    const double loss = replay(trainer, {ann, bob}, {.epochs = 2, .batch_size = 4, .seed = 7});
    CHECK(trainer.applied_steps() == 6);

    // Written out: two passes of 4, 4 and 1 examples with PyTorch's own SGD.
    ModelPart expected = make_tail();
    std::vector<at::Tensor> parameters;
    for (const NamedTensor& entry : expected.parameters()) parameters.push_back(entry.tensor);
    torch::optim::SGD sgd(parameters, torch::optim::SGDOptions(0.1).momentum(0.9));
    const at::Tensor activations = at::cat({ann.activations, bob.activations});
    const at::Tensor labels = at::cat({ann.labels, bob.labels});
    double last_pass = 0;
    for (uint64_t epoch = 0; epoch < 2; ++epoch) {
      const std::vector<int64_t> order =
          random_permutation(9, derive_seed(7, RandomPurpose::kShuffle, {hash_name("tail_replay"), epoch}));
      last_pass = 0;
      for (size_t begin = 0; begin < 9; begin += 4) {
        const auto end = std::min<size_t>(9, begin + 4);
        const at::Tensor places =
            torch::tensor(std::vector<int64_t>(order.begin() + static_cast<std::ptrdiff_t>(begin),
                                               order.begin() + static_cast<std::ptrdiff_t>(end)));
        const at::Tensor step_loss = torch::cross_entropy_loss(
            expected.forward(activations.index_select(0, places)), labels.index_select(0, places));
        sgd.zero_grad();
        step_loss.backward();
        sgd.step();
        last_pass += step_loss.item<double>() * static_cast<double>(end - begin) / 9;
      }
    }
    for (size_t i = 0; i < parameters.size(); ++i) {
      CHECK(at::allclose(replayed.parameters()[i].tensor, parameters[i], 1e-5, 1e-6));
    }
    CHECK(loss == doctest::Approx(last_pass).epsilon(1e-5));
  }

  TEST_CASE("the same seed gives the same bits, another one another order") {
    const auto weights = [](uint64_t seed) {
      ModelPart tail = make_tail();
      TailTrainer trainer(tail, momentum_sgd());
      (void)replay(trainer, {smashed(16, 1)}, {.batch_size = 4, .seed = seed});
      return snapshot(tail.state());
    };
    check_equal(weights(1), weights(1));
    CHECK_FALSE(at::equal(weights(1)[0].tensor, weights(2)[0].tensor));
  }

  TEST_CASE("batches whose loss is far off change nothing, and are not counted") {
    auto options = momentum_sgd();
    options.loss_limit = 1e-6;
    ModelPart tail = make_tail();
    TailTrainer trainer(tail, options);
    CHECK(std::isnan(replay(trainer, {smashed(8, 1)}, {})));
    CHECK(trainer.applied_steps() == 0);
    check_equal(tail.state(), make_tail().state());
  }

  TEST_CASE("options out of range are named") {
    const SmashedBatch batch = smashed(4, 1);
    CHECK(complaint({batch}, {.epochs = 0}) == "ReplayOptions.epochs must be >= 1, got 0");
    CHECK(complaint({batch}, {.batch_size = 0}) == "ReplayOptions.batch_size must be >= 1, got 0");
    CHECK(complaint({batch}, {.minimum_batch = 0}) == "ReplayOptions.minimum_batch must be >= 1, got 0");
    CHECK(complaint({}, {}) == "replay needs at least one batch of smashed data");
    CHECK(complaint({batch}, {}) == "none");
  }

  TEST_CASE("no step has fewer examples than batch statistics need") {
    const auto definition = define_model("resnet18:norm=batch,width=8", {1, 8, 8}, 3);
    ModelPart tail = definition->build(5, 4, definition->num_blocks());
    TailTrainer trainer(tail, momentum_sgd());
    torch::manual_seed(1);
    const auto shape = definition->block(3).output_shape;
    const auto batch = [&](int64_t examples) {
      std::vector<int64_t> sizes = {examples};
      sizes.insert(sizes.end(), shape.begin(), shape.end());
      return SmashedBatch{at::randn(sizes), at::randint(0, 3, {examples}, at::kLong)};
    };
    // 4 and 5 instead of 4, 4 and 1.
    CHECK(std::isfinite(replay(trainer, {batch(9)}, {.batch_size = 4, .minimum_batch = 2})));
    CHECK(trainer.applied_steps() == 2);
    CHECK(std::isfinite(replay(trainer, {batch(4)}, {.batch_size = 1, .minimum_batch = 2})));
    CHECK(trainer.applied_steps() == 4);
    CHECK(std::isnan(replay(trainer, {batch(1)}, {.batch_size = 4, .minimum_batch = 2})));
    CHECK(trainer.applied_steps() == 4);
  }
}
