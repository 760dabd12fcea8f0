#include "tandem/tools/simulation.h"

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "tandem/core/wire/message_codec.h"
#include "tandem/datasets/data_source.h"
//
#include "support/recording_observer.h"
#include "support/test.h"

using namespace tandem;

namespace {

std::shared_ptr<const Dataset> images(const std::string& parameters,
                                      datasets::Split split = datasets::Split::kTrain) {
  return datasets::open_dataset("synthetic:images,classes=4,size=8," + parameters, split).value();
}

std::vector<tools::VirtualEdge> four_edges(int examples = 64) {
  std::vector<tools::VirtualEdge> edges;
  const auto all = images("examples=" + std::to_string(4 * examples));
  for (int i = 0; i < 4; ++i) {
    auto part = datasets::take_shard(all, {.shard = std::to_string(i) + "/4"});
    edges.push_back({"client-" + std::to_string(i + 1), part.value()});
  }
  return edges;
}

aggregator::SessionOptions options_for(int clients) {
  aggregator::SessionOptions options;
  options.plan.model = "cnn";
  options.plan.cut = 1;
  options.plan.rounds = 3;
  options.plan.optimizer = {.learning_rate = 0.05, .momentum = 0.9};
  options.clients = clients;
  options.batch_size = 32;
  return options;
}

wire::MessageType type_of_frames(const wire::Frames& frames) {
  return wire::read_header({frames[0].data(), frames[0].size()}).value().type;
}

}  // namespace

TEST_SUITE("tools/simulation") {
  TEST_CASE("training in parallel learns and evaluates the merged model") {
    testing::RecordingObserver observer;
    auto options = options_for(4);
    options.plan.rounds = 8;
    const auto eval = images("examples=512", datasets::Split::kTest);
    tools::Simulation simulation(options, observer, eval.get(), {}, four_edges(128), {.workers = 2});
    REQUIRE(simulation.run().has_value());
    REQUIRE(observer.rounds.size() == 8);
    CHECK(observer.rounds.front().eval_accuracy.has_value());
    CHECK(*observer.rounds.back().eval_accuracy > 0.8);
    CHECK(observer.rounds.back().loss < 0.5 * observer.rounds.front().loss);
    for (const RoundRecord& round : observer.rounds) {
      CHECK(round.clients == 4);
      CHECK(round.examples == 512);
      CHECK(round.steps == 16);
      CHECK(round.bytes_up > round.examples * 32 * 4 * 4 * 4);  // activations 32x4x4 float32
    }
    CHECK(simulation.session().summary().status == "completed");
    for (size_t i = 0; i < 4; ++i) {
      CHECK(simulation.edge(i).phase() == edge_client::EdgeSession::Phase::kFinished);
      CHECK(simulation.edge(i).final_front().size() == 2);
    }
  }

  TEST_CASE("without evaluation data the evaluation figures do not exist") {
    testing::RecordingObserver observer;
    tools::Simulation simulation(options_for(4), observer, nullptr, {}, four_edges(), {});
    REQUIRE(simulation.run().has_value());
    CHECK_FALSE(observer.rounds.back().eval_accuracy.has_value());
    CHECK_FALSE(simulation.session().summary().eval_loss.has_value());
  }

  TEST_CASE("a client killed in the middle of a round does not stop the others, and is named") {
    testing::RecordingObserver observer;
    tools::Simulation simulation(options_for(4), observer, nullptr, {}, four_edges(), {});
    int seen = 0;
    simulation.filter = [&](size_t edge, bool to_aggregator, const wire::Frames& frames) {
      if (edge == 2 && to_aggregator && type_of_frames(frames) == wire::MessageType::kActivations &&
          ++seen == 4) {
        simulation.kill(2);
        return false;
      }
      return true;
    };
    REQUIRE(simulation.run().has_value());
    CHECK(simulation.session().completed());
    REQUIRE(observer.find("leave", "client-3") != nullptr);
    CHECK(observer.find("leave", "client-3")->round == 1);
    CHECK(observer.find("leave", "client-3")->detail.find("silent for 10000 ms") != std::string::npos);
    CHECK(observer.rounds[0].clients == 3);
    CHECK(observer.rounds[2].clients == 3);
    CHECK(observer.rounds[2].examples == 192);
  }

  TEST_CASE("a client whose messages get lost is skipped after the deadline and back in the next round") {
    testing::RecordingObserver observer;
    auto options = options_for(4);
    options.step_deadline = std::chrono::seconds(2);
    tools::Simulation simulation(options, observer, nullptr, {}, four_edges(), {});
    int lost = 0;
    simulation.filter = [&](size_t edge, bool to_aggregator, const wire::Frames& frames) {
      const bool lose =
          edge == 0 && to_aggregator && lost < 2 && type_of_frames(frames) == wire::MessageType::kActivations;
      lost += lose;
      return !lose;
    };
    REQUIRE(simulation.run().has_value());
    CHECK(observer.count("missed-step") == 2);
    CHECK(observer.count("excluded") == 1);
    CHECK(observer.find("excluded")->client == "client-1");
    CHECK(observer.rounds[0].clients == 3);
    CHECK(observer.rounds[1].clients == 4);
  }

  TEST_CASE("a client that is shorter of data brings less and weighs less") {
    testing::RecordingObserver observer;
    auto edges = four_edges();
    edges[1].dataset = datasets::take_shard(edges[1].dataset, {.shard = "0/8"}).value();
    tools::Simulation simulation(options_for(4), observer, nullptr, {}, std::move(edges), {});
    REQUIRE(simulation.run().has_value());
    CHECK(observer.rounds[0].examples == 3 * 64 + 8);
    for (const ClientRecord& record : observer.clients)
      CHECK(record.examples == (record.client == "client-2" ? 8 : 64));
  }

  TEST_CASE("clients that sit out most steps run ahead of the others and are never refused") {
    for (const uint32_t window : {1u, 3u}) {
      testing::RecordingObserver observer;
      std::vector<tools::VirtualEdge> edges;
      const auto all = images("examples=96");
      for (int i = 0; i < 8; ++i) {
        auto part = datasets::take_shard(all, {.shard = std::to_string(i) + "/8"});
        edges.push_back({"client-" + std::to_string(i + 1), part.value()});
      }
      auto options = options_for(8);
      options.batch_size = 4;
      options.plan.window = window;
      tools::Simulation simulation(options, observer, nullptr, {}, std::move(edges), {});
      REQUIRE(simulation.run().has_value());
      CHECK(simulation.session().refused_messages() == 0);
      CHECK(observer.count("reconnect") == 0);
      CHECK(observer.rounds.back().examples == 96);
    }
  }

  TEST_CASE("devices whose data do not fit the run are refused with the reason") {
    testing::RecordingObserver observer;
    auto edges = four_edges();
    edges[3].dataset =
        datasets::open_dataset("synthetic:images,classes=4,size=12,examples=64", datasets::Split::kTrain)
            .value();
    auto options = options_for(3);
    tools::Simulation simulation(options, observer, nullptr, {}, std::move(edges), {});
    const auto ran = simulation.run();
    REQUIRE_FALSE(ran.has_value());
    CHECK(
        ran.error().message ==
        "the aggregator refuses this device: its examples have shape 1x12x12, this run trains on 1x8x8 (from "
        "device client-2)");
    CHECK(simulation.session().completed());
    CHECK(observer.find("refused", "client-4") != nullptr);
  }

  TEST_CASE("a cut out of range and an unknown model are refused before anybody connects") {
    testing::RecordingObserver observer;
    auto options = options_for(4);
    options.plan.cut = 4;
    tools::Simulation out_of_range(options, observer, nullptr, {}, four_edges(), {});
    const auto bad_cut = out_of_range.run();
    REQUIRE_FALSE(bad_cut.has_value());
    CHECK(bad_cut.error().message.find("cut") != std::string::npos);
    options.plan.model = "cmn";
    tools::Simulation unknown(options, observer, nullptr, {}, four_edges(), {});
    const auto bad_model = unknown.run();
    REQUIRE_FALSE(bad_model.has_value());
    CHECK(bad_model.error().message.find("cnn") != std::string::npos);
  }

  TEST_CASE("training starts from given weights") {
    auto options = options_for(4);
    const auto definition = define_model("cnn", {1, 8, 8}, 4);
    const NamedTensors initial = snapshot(definition->build(99).state());
    options.plan.optimizer.learning_rate = 1e-12;
    options.plan.optimizer.momentum = 0;
    options.plan.rounds = 1;
    testing::RecordingObserver observer;
    tools::Simulation simulation(options, observer, nullptr, InitialWeights{.tensors = initial}, four_edges(),
                                 {});
    REQUIRE(simulation.run().has_value());
    const NamedTensors weights = simulation.session().weights();
    REQUIRE(weights.size() == initial.size());
    for (size_t i = 0; i < weights.size(); ++i)
      CHECK(at::allclose(weights[i].tensor, initial[i].tensor, 0, 1e-6));
  }

  TEST_CASE("weights to start from that do not fit the model are refused by name") {
    testing::RecordingObserver observer;
    NamedTensors initial = snapshot(define_model("cnn", {1, 8, 8}, 4)->build(99).state());
    initial[0].name = "0.0.weights";
    const InitialWeights weights{.tensors = initial, .source = "--init FILE"};
    tools::Simulation simulation(options_for(4), observer, nullptr, weights, four_edges(), {});
    const auto ran = simulation.run();
    REQUIRE_FALSE(ran.has_value());
    CHECK(
        ran.error().message ==
        "--init FILE does not fit --model cnn: the file lacks 0.0.weight; the model has no 0.0.weights (for "
        "0.0.weight?)");
  }
}
