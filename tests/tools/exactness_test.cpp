// Split training equals unsplit training: the promises of parallel split-federated learning, as tests. Each
// reference below is written straight from its definition, over the unsplit model.
#include <memory>
#include <string>
#include <vector>

#include "tandem/core/training/compute_device.h"
#include "tandem/core/training/optimizer.h"
//
#include "support/reference_data.h"
#include "support/simulated_runs.h"
#include "support/test.h"

using namespace tandem;
using namespace tandem::testing;

namespace {

/// The same training on the model in one piece.
NamedTensors train_unsplit(const aggregator::SessionOptions& options, const std::vector<int>& examples,
                           bool batch_norm = false) {
  ModelPart model = whole_model(options);
  model.set_training(true);
  Optimizer optimizer(options.plan.optimizer, model.parameters());
  ReferenceData data(options, examples, batch_norm);
  for (uint32_t round = 0; round < options.plan.rounds; ++round) {
    for (const Batch& batch : data.next_round()) {
      model.zero_grad();
      torch::cross_entropy_loss(model.forward(batch.inputs), batch.labels).backward();
      optimizer.step(lr_factor(options.plan.lr_schedule, optimizer.applied_steps()));
    }
  }
  return snapshot(model.state());
}

}  // namespace

TEST_SUITE("exactness") {
  TEST_CASE("one client with parallel equals the unsplit model, bit for bit, at every cut of every model") {
    configure_compute_thread(1);
    for (const std::string model : {"cnn", "lenet5", "mlp:hidden=32-16", "resnet18:norm=batch,width=8",
                                    "resnet18:norm=group,width=8"}) {
      const int blocks = define_model(model, {1, 8, 8}, 4)->num_blocks();
      const auto options = base_options(model, 1, 1);
      const bool batch_norm = model.find("norm=batch") != std::string::npos;
      const NamedTensors expected = train_unsplit(options, {40}, batch_norm);
      for (int cut = 1; cut < blocks; ++cut) {
        CAPTURE(model);
        CAPTURE(cut);
        auto split = options;
        split.plan.cut = cut;
        check_bitwise_equal(run(split, {40}), expected);
      }
    }
  }

  TEST_CASE("one client equals the unsplit model with Adam and a cosine schedule with warm-up") {
    auto options = base_options("cnn", 2, 1);
    options.plan.optimizer = {.kind = OptimizerKind::kAdam, .learning_rate = 1e-2};
    options.plan.lr_schedule = {.kind = LrScheduleKind::kCosine, .warmup_steps = 2, .period_steps = 6};
    check_bitwise_equal(run(options, {40}), train_unsplit(options, {40}));
  }

  TEST_CASE("the reference can fail: another seed gives other weights") {
    auto options = base_options("cnn", 1, 1);
    const NamedTensors expected = train_unsplit(options, {40});
    options.plan.seed = 8;
    CHECK(largest_difference(run(options, {40}), expected) > 1e-3);
  }

  TEST_CASE("4 clients with one local step a round and SGD equal centralised SGD on the joined batch") {
    for (const std::string model : {"cnn", "lenet5", "mlp:hidden=32-16", "resnet18:norm=group,width=8"}) {
      CAPTURE(model);
      auto options = base_options(model, 2, 4);
      options.plan.optimizer = {.learning_rate = 0.05};
      options.plan.rounds = 12;
      options.local_steps = 1;
      const std::vector<int> examples = {40, 12, 25, 31};
      const NamedTensors expected = train_unsplit(options, examples);
      CHECK(largest_difference(run(options, examples), expected) < 2e-6);
      // The training moved the weights by far more than that.
      CHECK(largest_difference(snapshot(whole_model(options).state()), expected) > 1e-3);
    }
  }

  TEST_CASE("the same seed gives the same weights whatever the order of arrival") {
    auto options = base_options("resnet18:norm=batch,width=8", 3, 4);
    const std::vector<int> examples = {40, 12, 25, 31};
    const NamedTensors expected = run(options, examples, {.workers = 1, .arrival_seed = 0});
    for (uint64_t arrival = 1; arrival <= 4; ++arrival) {
      CAPTURE(arrival);
      check_bitwise_equal(run(options, examples, {.workers = 2, .arrival_seed = arrival}), expected);
    }
    options.plan.window = 3;
    const NamedTensors windowed = run(options, examples, {.workers = 1, .arrival_seed = 0});
    check_bitwise_equal(run(options, examples, {.workers = 2, .arrival_seed = 9}), windowed);
  }

  TEST_CASE("window 3 equals a sequential delayed-SGD oracle, bit for bit") {
    for (const std::string model : {"cnn", "resnet18:norm=batch,width=8"}) {
      CAPTURE(model);
      auto options = base_options(model, 2, 1);
      options.plan.window = 3;
      options.plan.rounds = 2;
      options.batch_size = 6;
      const int cut = options.plan.cut;
      const bool batch_norm = model != "cnn";

      // The oracle: step s runs the front of s - W + 1 updates ago (or the round's first) and the present
      // tail; its front gradient is applied to the present front. Batch-norm statistics move in step order.
      const auto definition = define_model(model, {1, 8, 8}, 4);
      ModelPart present = whole_model(options);
      present.set_training(true);
      ModelPart front = present.slice(0, cut);
      ModelPart tail = present.slice(cut, definition->num_blocks());
      Optimizer front_optimizer(options.plan.optimizer, front.parameters());
      Optimizer tail_optimizer(options.plan.optimizer, tail.parameters());
      ReferenceData data(options, {40}, batch_norm);
      const auto copy = [](const NamedTensors& from, const NamedTensors& to) {
        const torch::NoGradGuard no_grad;
        for (size_t i = 0; i < from.size(); ++i) at::Tensor(to[i].tensor).copy_(from[i].tensor);
      };
      for (uint32_t round = 0; round < options.plan.rounds; ++round) {
        std::vector<NamedTensors> history = {snapshot(front.parameters())};
        for (const Batch& batch : data.next_round()) {
          const size_t applied = history.size() - 1;
          const size_t version = applied >= options.plan.window - 1 ? applied - (options.plan.window - 1) : 0;
          ModelPart old = front.clone();
          old.set_training(true);
          copy(history[version], old.parameters());
          const at::Tensor smashed = old.forward(batch.inputs);
          copy(old.buffers(), front.buffers());
          const at::Tensor leaf = smashed.detach().requires_grad_();
          tail.zero_grad();
          torch::cross_entropy_loss(tail.forward(leaf), batch.labels).backward();
          tail_optimizer.step(1.0);
          smashed.backward(leaf.grad());
          const NamedTensors gradients = old.parameters();
          NamedTensors targets = front.parameters();
          for (size_t i = 0; i < targets.size(); ++i)
            targets[i].tensor.mutable_grad() = gradients[i].tensor.grad();
          front_optimizer.step(1.0);
          history.push_back(snapshot(front.parameters()));
        }
      }
      check_bitwise_equal(run(options, {40}), snapshot(present.state()));

      auto exact = options;
      exact.plan.window = 1;
      CHECK(largest_difference(run(exact, {40}), snapshot(present.state())) > 1e-5);
    }
  }
}
