// Clients of different cuts in one run. The reference is written from the definition, over the unsplit model
// with one optimiser a block: nothing of it is a stage, a chain or a merge by ranges.
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
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

const std::vector<int> kExamples = {40, 12, 25, 31};

aggregator::SessionOptions options_for(Algorithm algorithm, const std::string& cuts,
                                       const std::string& model = "lenet5") {
  configure_compute_thread(1);
  auto options = base_options(model, 1, static_cast<int>(kExamples.size()));
  options.plan.algorithm = algorithm;
  options.plan.rounds = 3;
  options.cuts = ClientCuts::parse(cuts).value();
  options.local_epochs = 2;
  return options;
}

/// A copy of a model's blocks, each with an optimiser of its own.
class Copies {
 public:
  Copies(const ModelPart& merged, const OptimizerOptions& options, int first, int last) {
    for (int b = first; b < last; ++b) {
      ModelPart block = merged.slice(b, b + 1).clone();
      block.set_training(true);
      optimizers_[b] = std::make_unique<Optimizer>(options, block.parameters());
      blocks_.emplace(b, std::move(block));
    }
  }
  void begin_round(const ModelPart& merged) {
    for (auto& [b, block] : blocks_) {
      copy_values(merged.slice(b, b + 1).state(), block.state());
      examples_[b] = 0;
    }
  }
  at::Tensor forward(at::Tensor values, int first) {
    for (auto& [b, block] : blocks_) {
      if (b >= first) values = block.forward(values);
    }
    return values;
  }
  void zero_grad() {
    for (auto& [b, block] : blocks_) block.zero_grad();
  }
  /// Steps block b on the mean loss of its own `examples`, of `total` in the joined loss.
  void step(int b, int64_t examples, int64_t total) {
    if (examples == 0) return;
    for (const NamedTensor& entry : blocks_.at(b).parameters()) {
      entry.tensor.mutable_grad().mul_(static_cast<double>(total) / static_cast<double>(examples));
    }
    optimizers_.at(b)->step(1.0);
    examples_[b] += static_cast<uint64_t>(examples);
  }
  bool holds(int b) const { return blocks_.contains(b); }
  uint64_t examples(int b) const { return examples_.at(b); }
  NamedTensors state(int b) const { return blocks_.at(b).state(); }

 private:
  std::map<int, ModelPart> blocks_;
  std::map<int, std::unique_ptr<Optimizer>> optimizers_;
  std::map<int, uint64_t> examples_;
};

/// The mean of each block's copies by the examples that each has learned from.
void merge(ModelPart& merged, const std::vector<Copies>& copies) {
  for (int b = 0; b < merged.last(); ++b) {
    std::vector<const Copies*> trained;
    double total = 0;
    for (const Copies& copy : copies) {
      if (!copy.holds(b) || copy.examples(b) == 0) continue;
      trained.push_back(&copy);
      total += static_cast<double>(copy.examples(b));
    }
    const NamedTensors places = merged.slice(b, b + 1).state();
    for (size_t t = 0; t < places.size() && !trained.empty(); ++t) {
      at::Tensor sum = at::zeros_like(places[t].tensor, at::kDouble);
      for (const Copies* copy : trained) {
        sum += copy->state(b)[t].tensor.detach().to(at::kDouble) *
               (static_cast<double>(copy->examples(b)) / total);
      }
      const torch::NoGradGuard no_grad;
      at::Tensor(places[t].tensor).copy_(sum);
    }
  }
}

/// `together`: all clients' batches are one step (parallel); else one client's batch is a step, and each has
/// its turn (splitfed-v2).
NamedTensors train_by_definition(const aggregator::SessionOptions& options, bool together) {
  ModelPart merged = whole_model(options);
  const int blocks = merged.last();
  std::vector<Copies> copies;
  std::vector<int> cuts;
  for (size_t i = 0; i < kExamples.size(); ++i) {
    cuts.push_back(options.cuts->of({client_name(static_cast<int>(i))}));
    copies.emplace_back(merged, options.plan.optimizer, 0, cuts.back());
  }
  copies.emplace_back(merged, options.plan.optimizer, options.cuts->lowest(), blocks);
  Copies& server = copies.back();
  ReferenceData data(options, kExamples, false);

  const auto step = [&](const std::map<size_t, Batch>& batches) {
    int64_t total = 0;
    for (const auto& [i, batch] : batches) total += batch.labels.size(0);
    if (total == 0) return;
    at::Tensor loss = at::zeros({});
    for (Copies& copy : copies) copy.zero_grad();
    for (const auto& [i, batch] : batches) {
      const int64_t size = batch.labels.size(0);
      if (size == 0) continue;
      const at::Tensor outputs = server.forward(copies[i].forward(batch.inputs, 0), cuts[i]);
      loss = loss + torch::cross_entropy_loss(outputs, batch.labels) *
                        (static_cast<double>(size) / static_cast<double>(total));
    }
    loss.backward();
    for (int b = 0; b < blocks; ++b) {
      int64_t of_server = 0;
      for (const auto& [i, batch] : batches) {
        if (cuts[i] <= b) of_server += batch.labels.size(0);
        if (cuts[i] > b) copies[i].step(b, batch.labels.size(0), total);
      }
      if (server.holds(b)) server.step(b, of_server, total);
    }
  };

  for (uint32_t round = 0; round < options.plan.rounds; ++round) {
    for (Copies& copy : copies) copy.begin_round(merged);
    const auto batches = data.next_round_of_each();
    if (together) {
      for (size_t s = 0; s < batches.of_client[0].size(); ++s) {
        std::map<size_t, Batch> joined;
        for (size_t i = 0; i < kExamples.size(); ++i) joined.emplace(i, batches.of_client[i][s]);
        step(joined);
      }
    } else {
      for (const size_t i : batches.turns) {
        for (const Batch& batch : batches.of_client[i]) step({{i, batch}});
      }
    }
    merge(merged, copies);
  }
  return snapshot(merged.state());
}

const std::map<std::string, OptimizerOptions> kOptimizers = {
    {"sgd", {.learning_rate = 0.05}},
    {"sgd with momentum and decay", {.learning_rate = 0.05, .momentum = 0.9, .weight_decay = 1e-3}},
    {"adam", {.kind = OptimizerKind::kAdam, .learning_rate = 1e-3}}};

}  // namespace

TEST_SUITE("different cuts") {
  TEST_CASE("parallel equals its definition over the unsplit model, to 1e-6") {
    for (const std::string cuts :
         {"client-1=1,*=2", "client-1=4,client-2=1,client-3=2,*=1", "client-4=1,*=3"}) {
      for (const auto& [name, optimizer] : kOptimizers) {
        CAPTURE(cuts);
        CAPTURE(name);
        auto options = options_for(Algorithm::kParallel, cuts);
        options.plan.optimizer = optimizer;
        const NamedTensors expected = train_by_definition(options, true);
        CHECK(largest_difference(run(options, kExamples), expected) < 1e-6);
        // The training moved the weights by far more than that, and the cuts matter.
        CHECK(largest_difference(snapshot(whole_model(options).state()), expected) > 1e-2);
        auto equal = options;
        equal.cuts.reset();
        CHECK(largest_difference(run(equal, kExamples), expected) > 1e-4);
      }
    }
  }

  TEST_CASE("splitfed-v2 equals its definition over the unsplit model, to 1e-6") {
    for (const auto& [name, optimizer] : kOptimizers) {
      CAPTURE(name);
      auto options = options_for(Algorithm::kSplitFedV2, "client-1=3,client-2=1,*=2");
      options.plan.optimizer = optimizer;
      CHECK(largest_difference(run(options, kExamples), train_by_definition(options, false)) < 1e-6);
    }
  }

  TEST_CASE("one local step a round and plain SGD equal centralised SGD, whatever the cuts") {
    auto options = options_for(Algorithm::kParallel, "client-1=4,client-2=1,client-3=2,*=3");
    options.plan.optimizer = {.learning_rate = 0.05};
    options.plan.rounds = 12;
    options.local_steps = 1;
    auto equal = options;
    equal.cuts.reset();
    const NamedTensors expected = run(equal, kExamples);
    CHECK(largest_difference(run(options, kExamples), expected) < 2e-6);
    CHECK(largest_difference(snapshot(whole_model(options).state()), expected) > 1e-3);
  }

  TEST_CASE("splitfed-v1 of any cuts equals federated, bit for bit") {
    for (const auto& [name, optimizer] : kOptimizers) {
      for (const std::string model : {"lenet5", "resnet18:norm=batch,width=8"}) {
        CAPTURE(name);
        CAPTURE(model);
        auto options = options_for(Algorithm::kFederated, "1", model);
        options.plan.optimizer = optimizer;
        options.cuts.reset();
        const NamedTensors expected = run(options, kExamples);
        options.plan.algorithm = Algorithm::kSplitFedV1;
        options.cuts = ClientCuts::parse("client-1=1,client-2=3,*=2").value();
        check_bitwise_equal(run(options, kExamples), expected);
      }
    }
  }

  TEST_CASE("a list that gives everybody the same cut is today's run, bit for bit") {
    for (const Algorithm algorithm : {Algorithm::kParallel, Algorithm::kSplitFedV2}) {
      auto options = options_for(algorithm, "client-1=2,client-3=2,*=2");
      const NamedTensors listed = run(options, kExamples);
      options.cuts.reset();
      options.plan.cut = 2;
      check_bitwise_equal(listed, run(options, kExamples));
    }
  }

  TEST_CASE("fedprox pulls the aggregator's copies of shared blocks too") {
    // With a strong pull no copy of a shared block moves far in a round; the last stage is free.
    auto options = options_for(Algorithm::kParallel, "client-1=1,*=3");
    options.plan.optimizer = {.learning_rate = 0.05};
    options.plan.rounds = 1;
    const NamedTensors initial = snapshot(whole_model(options).state());
    const auto moved = [&](const NamedTensors& weights, int first, int last) {
      return largest_difference(tensors_of_blocks(weights, first, last),
                                tensors_of_blocks(initial, first, last));
    };
    const NamedTensors free = run(options, kExamples);
    options.strategy = "fedprox:mu=15";
    options.plan.proximal_mu = 15;
    const NamedTensors pulled = run(options, kExamples);
    CHECK(moved(pulled, 1, 3) < 0.5 * moved(free, 1, 3));
    CHECK(moved(pulled, 3, 5) > 0.5 * moved(free, 3, 5));
  }

  TEST_CASE("the order of arrival and the number of workers change nothing") {
    const auto options = options_for(Algorithm::kParallel, "client-1=1,client-2=3,*=2");
    const NamedTensors expected = run(options, kExamples, {.workers = 1, .arrival_seed = 0});
    check_bitwise_equal(run(options, kExamples, {.workers = 2, .arrival_seed = 5}), expected);
    check_bitwise_equal(run(options, kExamples, {.workers = 2, .arrival_seed = 9, .shares_models = false}),
                        expected);
  }

  TEST_CASE("what is not defined for different cuts is refused with its reason") {
    const auto refusal = [](const std::function<void(aggregator::SessionOptions&)>& change) {
      auto options = options_for(Algorithm::kParallel, "client-1=1,*=2");
      change(options);
      try {
        (void)options.validated();
        return std::string();
      } catch (const std::invalid_argument& error) {
        return std::string(error.what());
      }
    };
    CHECK(refusal([](auto&) {}).empty());
    const std::map<std::string, std::function<void(aggregator::SessionOptions&)>> kRefused = {
        {"--algorithm relay", [](auto& options) { options.plan.algorithm = Algorithm::kRelay; }},
        {"--algorithm federated", [](auto& options) { options.plan.algorithm = Algorithm::kFederated; }},
        {"--edge-objective", [](auto& options) { options.plan.objective = EdgeObjective::kLocal; }},
        {"--head-blocks", [](auto& options) { options.plan.head_blocks = 1; }},
        {"--window 2", [](auto& options) { options.plan.window = 2; }},
        {"--batch-norm local", [](auto& options) { options.plan.batch_norm = BatchNormMode::kLocal; }},
        {"--strategy fedadam", [](auto& options) { options.strategy = "fedadam"; }}};
    for (const auto& [setting, change] : kRefused) {
      CAPTURE(setting);
      const std::string reason = refusal(change);
      CHECK(reason.find("different cuts (--cut) cannot be combined with " + setting) != std::string::npos);
      // A list of equal cuts is one cut for all.
      CHECK(refusal([&](auto& options) {
              change(options);
              options.cuts = ClientCuts::parse("client-1=2,*=2").value();
            }).find("different cuts") == std::string::npos);
    }
  }

  TEST_CASE("a cut outside the model ends the run before it begins, with the cuts that there are") {
    const auto options = options_for(Algorithm::kParallel, "client-1=1,*=9");
    RecordingObserver observer;
    tools::Simulation simulation(options, observer, nullptr, {}, make_edges(kExamples), {});
    const auto ran = simulation.run();
    REQUIRE_FALSE(ran);
    CHECK(ran.error().message.find("cut must be 1..4") != std::string::npos);
  }
}
