// Runs that start from given weights (--init). Every tensor of them counts: also what is not exchanged later
// on, wherever it is held, and whoever dies and comes back.
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "tandem/core/training/device_model.h"
#include "tandem/core/training/federated_average.h"
#include "tandem/core/training/optimizer.h"
//
#include "support/session_network.h"
#include "support/simulated_runs.h"
#include "support/test.h"

using namespace tandem;
using namespace tandem::testing;

namespace {

const std::vector<int> kExamples = {40, 12, 25};

const std::map<std::string, OptimizerOptions> kOptimizers = {
    {"sgd", {.learning_rate = 0.05}},
    {"momentum", {.learning_rate = 0.05, .momentum = 0.9, .weight_decay = 1e-3}},
    {"adam", {.kind = OptimizerKind::kAdam, .learning_rate = 1e-3}},
    {"adamw", {.kind = OptimizerKind::kAdamW, .learning_rate = 1e-3, .weight_decay = 0.05}},
};

aggregator::SessionOptions options_for(const std::string& algorithm, BatchNormMode mode) {
  configure_compute_thread(1);
  auto options = base_options("resnet18:norm=batch,width=16", 3, 3);
  options.plan.algorithm = find_algorithm(algorithm).value();
  options.plan.batch_norm = mode;
  return options;
}

/// Other weights than the seed's, and batch norm as no build has it.
NamedTensors other_weights(const aggregator::SessionOptions& options) {
  const torch::NoGradGuard no_grad;
  const ModelPart model = define_model(options.plan.model, {1, 8, 8}, options.plan.num_classes)->build(99);
  for (const NamedTensor& entry : model.batch_norm_state()) {
    const at::Tensor& tensor = entry.tensor;
    const bool counter = !at::isFloatingType(tensor.scalar_type());
    tensor.copy_(counter ? at::full_like(tensor, 5)
                         : at::linspace(0.5, 1.5, tensor.numel()).view(tensor.sizes()));
  }
  return snapshot(model.state());
}

/// Federated learning whose batch norm is averaged, local (FedBN, Li et al., ICLR 2021) or frozen.
NamedTensors train(const aggregator::SessionOptions& options, const NamedTensors& initial) {
  const BatchNormMode mode = options.plan.batch_norm;
  ModelPart merged = whole_model(options);
  REQUIRE(merged.load(initial));
  if (mode == BatchNormMode::kFreeze) merged.freeze_batch_norm();
  merged.set_training(true);
  std::vector<ModelPart> clients;
  std::vector<std::unique_ptr<Optimizer>> optimizers;
  for (size_t i = 0; i < kExamples.size(); ++i) {
    clients.push_back(merged.clone());
    optimizers.push_back(std::make_unique<Optimizer>(options.plan.optimizer, clients.back().parameters()));
  }
  ReferenceData data(options, kExamples, mode != BatchNormMode::kFreeze);
  for (uint32_t round = 0; round < options.plan.rounds; ++round) {
    const auto batches = data.next_round_of_each();
    const NamedTensors exchanged = exchanged_state(merged, mode);
    FederatedAverage mean(snapshot(exchanged));
    for (size_t i = 0; i < clients.size(); ++i) {
      copy_values(exchanged, exchanged_state(clients[i], mode));
      for (const Batch& batch : batches.of_client[i]) {
        clients[i].zero_grad();
        torch::cross_entropy_loss(clients[i].forward(batch.inputs), batch.labels).backward();
        optimizers[i]->step(1.0);
      }
      REQUIRE(mean.add({client_name(static_cast<int>(i))}, exchanged_state(clients[i], mode),
                       static_cast<uint64_t>(kExamples[i])));
    }
    copy_values(mean.mean(), exchanged);
  }
  return snapshot(merged.state());
}

}  // namespace

TEST_SUITE("tools/initial_weights") {
  TEST_CASE("batch norm that is averaged, local or frozen starts from the initial weights, bit for bit") {
    for (const BatchNormMode mode :
         {BatchNormMode::kAverage, BatchNormMode::kLocal, BatchNormMode::kFreeze}) {
      for (const auto& [name, optimizer] : kOptimizers) {
        CAPTURE(static_cast<int>(mode));
        CAPTURE(name);
        auto options = options_for("federated", mode);
        options.plan.optimizer = optimizer;
        const NamedTensors initial = other_weights(options);
        const NamedTensors expected = train(options, initial);
        check_bitwise_equal(run(options, kExamples, {}, nullptr, initial), expected);
        options.plan.algorithm = Algorithm::kSplitFedV1;
        options.plan.cut = 3;
        check_bitwise_equal(run(options, kExamples, {}, nullptr, initial), expected);
      }
    }
  }

  TEST_CASE("given the seed's own weights, local batch norm trains as without any") {
    for (const std::string algorithm : {"parallel", "splitfed-v2", "federated"}) {
      CAPTURE(algorithm);
      const auto options = options_for(algorithm, BatchNormMode::kLocal);
      check_bitwise_equal(run(options, kExamples, {}, nullptr, snapshot(whole_model(options).state())),
                          run(options, kExamples));
    }
  }

  TEST_CASE("who lost everything gets the initial weights again, also of an aggregator that came back") {
    auto options = options_for("federated", BatchNormMode::kLocal);
    options.min_clients = 1;
    options.plan.rounds = 3;
    const NamedTensors initial = other_weights(options);
    SessionNetwork network(options, nullptr, 0, initial);
    add_clients(network, kExamples);
    std::vector<NamedTensors> kept;  // of every Welcome to the first device
    bool second_round = false, restarted = false;
    network.on_message = [&](size_t edge, bool up, wire::Message& message) {
      const auto* welcome = std::get_if<wire::Welcome>(&message.body);
      if (welcome != nullptr && edge == 0) kept.push_back(snapshot(welcome->kept));
      second_round = second_round || (up && message.key.round == 2);
      return Fate::kDeliver;
    };
    network.connect_all();
    REQUIRE(network.run([&] {
      if (!second_round || restarted) return false;
      restarted = true;
      network.restart_aggregator();
      network.restart(0);
      network.connect(1);
      network.connect(2);
      return false;
    }));
    CHECK(network.session().completed());
    REQUIRE(kept.size() >= 2);
    const NamedTensors expected = named_like(whole_model(options).batch_norm_state(), initial);
    for (const NamedTensors& found : kept) check_bitwise_equal(found, expected);
  }
}
