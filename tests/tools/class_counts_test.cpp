// Devices that hold different classes: the model gets as many as all of them need, whoever comes first.
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "support/session_network.h"
#include "support/test.h"

using namespace tandem;
using namespace tandem::testing;

namespace {

std::shared_ptr<const Dataset> images_in(int classes, int seed) {
  return datasets::open_dataset("synthetic:images,examples=24,size=8,classes=" + std::to_string(classes) +
                                    ",seed=" + std::to_string(seed),
                                datasets::Split::kTrain)
      .value();
}

const std::vector<int> kClasses = {3, 6, 4};

aggregator::SessionOptions options_of(const Flow& flow, int64_t classes) {
  auto options = flow_options(flow);
  options.plan.num_classes = classes;
  options.step_deadline = options.update_deadline = std::chrono::hours(1);
  return options;
}

void add_devices(SessionNetwork& network) {
  for (size_t i = 0; i < kClasses.size(); ++i) {
    const int number = static_cast<int>(i);
    network.add(client_name(number), images_in(kClasses[i], number + 1));
  }
}

NamedTensors run_in_order(const aggregator::SessionOptions& options, const std::vector<size_t>& order) {
  SessionNetwork network(options);
  add_devices(network);
  for (const size_t index : order) {
    network.connect(index);
    network.pass(std::chrono::milliseconds(100));
  }
  REQUIRE(network.run());
  REQUIRE(network.session().completed());
  CHECK(network.observer.rounds.back().clients == 3);
  CHECK(network.session().plan().num_classes == 6);
  return weights_of(network);
}

}  // namespace

TEST_SUITE("tools/class_counts") {
  TEST_CASE("whoever comes first, the weights are those of a run that was given the class count") {
    for (const Flow& flow :
         {Flow{"parallel", "parallel"}, Flow{"federated", "federated"}, Flow{"U-shaped", "splitfed-v1", 1},
          Flow{"local", "splitfed-v2", 0, EdgeObjective::kLocal}}) {
      CAPTURE(flow.name);
      const NamedTensors given = run_in_order(options_of(flow, 6), {0, 1, 2});
      for (const std::vector<size_t>& order :
           std::vector<std::vector<size_t>>{{0, 1, 2}, {1, 0, 2}, {2, 0, 1}, {0, 2, 1}}) {
        check_bitwise_equal(run_in_order(options_of(flow, 0), order), given);
      }
    }
  }

  TEST_CASE("any single message lost, or delivered twice, while the class count grows changes nothing") {
    const Flow flow{"parallel", "parallel"};
    const NamedTensors given = run_in_order(options_of(flow, 6), {0, 1, 2});
    int messages = 0;
    for (const Fate fate : {Fate::kDeliver, Fate::kLose, Fate::kTwice}) {
      // Up to the first batches: Hello, Welcome and BeginRound of each, and Welcome again.
      for (int disturbed = 0; disturbed < (fate == Fate::kDeliver ? 1 : 16); ++disturbed) {
        CAPTURE(disturbed);
        SessionNetwork network(options_of(flow, 0), nullptr, 3);
        add_devices(network);
        messages = 0;
        network.on_message = [&](size_t, bool, wire::Message&) {
          return messages++ == disturbed ? fate : Fate::kDeliver;
        };
        for (size_t i = 0; i < kClasses.size(); ++i) network.connect(i);
        REQUIRE(network.run());
        REQUIRE(network.session().completed());
        CHECK(network.observer.rounds[0].clients == 3);
        check_bitwise_equal(weights_of(network), given);
      }
    }
    CHECK(messages > 16);
  }

  TEST_CASE(
      "a run that goes on keeps its class count, and refuses devices with more by the name of who set it") {
    auto options = options_of({"federated", "federated"}, 0);
    options.plan.rounds = 4;
    SessionNetwork network(options);
    add_devices(network);
    network.connect_all();
    REQUIRE(network.run([&] { return network.observer.rounds.size() == 2; }));
    network.restart_aggregator();
    network.connect_all();
    network.add("client-9", images_in(9, 9));
    network.connect(3);
    REQUIRE(network.run());
    REQUIRE(network.session().completed());
    CHECK(network.session().plan().num_classes == 6);
    REQUIRE(network.observer.find("refused", "client-9") != nullptr);
    CHECK(
        network.observer.find("refused", "client-9")->detail.find("this run has 6 (from device client-2)") !=
        std::string::npos);
  }
}
