// Robust strategies against devices that lie about their weights: 2 of 11, as in the papers' smallest setting
// for Bulyan (n >= 4f + 3).
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tandem/aggregator/strategies/strategy.h"
#include "tandem/core/training/compute_device.h"
#include "tandem/core/wire/message_codec.h"
//
#include "support/simulated_runs.h"
#include "support/test.h"

using namespace tandem;
using namespace tandem::testing;

namespace {

constexpr int kClients = 11;
constexpr int kAttackers = 2;

/// An attacker sends the weights it was given plus so many times what it learned.
using Attack = std::optional<double>;

/// Test accuracy after federated training, the last clients attacking in every round; 0 when it diverged.
double accuracy(const std::string& strategy, Attack attack) {
  configure_compute_thread(1);
  aggregator::SessionOptions options = base_options("lenet5", 1, kClients);
  options.plan.algorithm = Algorithm::kFederated;
  options.plan.augment = "";
  options.plan.rounds = 8;
  options.plan.optimizer = {.learning_rate = 0.02, .momentum = 0.9};
  options.strategy = strategy;
  const std::string specification = "synthetic:images,examples=4400,test-examples=1000,classes=4,size=12";
  const auto data = datasets::open_dataset(specification, datasets::Split::kTrain).value();
  const auto eval_data = datasets::open_dataset(specification, datasets::Split::kTest).value();
  std::vector<tools::VirtualEdge> edges;
  for (int i = 0; i < kClients; ++i) {
    const std::string shard = std::to_string(i) + "/" + std::to_string(kClients);
    const std::string number = std::to_string(100 + i);
    edges.push_back({"client-" + number, datasets::take_shard(data, {.shard = shard}).value(), nullptr});
  }
  RecordingObserver observer;
  tools::Simulation simulation(options, observer, eval_data.get(), {}, std::move(edges), {});
  NamedTensors global;
  simulation.filter = [&](size_t edge, bool to_aggregator, const wire::Frames& frames) {
    if (to_aggregator || edge != kClients - 1) return true;
    const auto message = wire::decode(frames, {}).value();
    if (const auto* begin = std::get_if<wire::BeginRound>(&message.body)) global = snapshot(begin->weights);
    return true;
  };
  simulation.tamper = [&](size_t edge, wire::Message& message) {
    auto* update = std::get_if<wire::WeightUpdate>(&message.body);
    if (!attack || update == nullptr || edge < kClients - kAttackers) return;
    for (size_t i = 0; i < global.size(); ++i) {
      at::Tensor& sent = update->weights[i].tensor;
      sent = global[i].tensor + (sent - global[i].tensor) * *attack;
    }
  };
  // Weights that explode leave no client with a finite loss, and the run says so.
  if (const auto ran = simulation.run(); !ran) {
    CHECK(ran.error().message.find("the training diverges") != std::string::npos);
    return 0;
  }
  REQUIRE(observer.rounds.size() == options.plan.rounds);
  return observer.rounds.back().eval_accuracy.value();
}

}  // namespace

TEST_SUITE("robustness") {
  TEST_CASE("2 of 11 clients that flip or scale their weights spoil fedavg and no robust strategy") {
    const std::map<std::string, Attack> attacks = {
        {"flip", -10.0},
        {"scale", 100.0},
    };
    const double undisturbed = accuracy("fedavg", std::nullopt);
    MESSAGE("fedavg undisturbed: " << undisturbed);
    CHECK(undisturbed > 0.9);
    for (const auto& [name, attack] : attacks) {
      CAPTURE(name);
      const double spoiled = accuracy("fedavg", attack);
      MESSAGE("fedavg, " << name << ": " << spoiled);
      CHECK(spoiled < undisturbed - 0.2);
      for (const std::string strategy :
           {"median", "trimmed-mean:fraction=0.2", "krum:f=2", "multi-krum:f=2", "bulyan:f=2"}) {
        CAPTURE(strategy);
        const double robust = accuracy(strategy, attack);
        MESSAGE(strategy << ", " << name << ": " << robust);
        CHECK(robust > undisturbed - 0.03);
      }
    }
  }
}
