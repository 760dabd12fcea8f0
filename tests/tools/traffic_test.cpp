// What crosses the network: labels that stay on the device, gradients that do not come down, and as many
// bytes as the formula says.
#include <array>
#include <cstring>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "support/session_network.h"
#include "support/test.h"

using namespace tandem;
using namespace tandem::testing;

namespace {

/// Two classes far apart, so that a label is a number that nothing else looks like.
class MarkedDataset : public Dataset {
 public:
  static constexpr int64_t kClasses = 60'000;
  static constexpr std::array<int64_t, 2> kLabels = {0xE1A7, 0xC3B5};

  DataDescription describe() const override {
    return {.input_shape = {1, 4, 4}, .num_classes = kClasses, .num_examples = 16};
  }
  Batch get(std::span<const int64_t> indices) const override {
    Batch batch{at::zeros({static_cast<int64_t>(indices.size()), 1, 4, 4}),
                at::zeros({static_cast<int64_t>(indices.size())}, at::kLong)};
    for (size_t i = 0; i < indices.size(); ++i) {
      batch.inputs[static_cast<int64_t>(i)].fill_(0.01 * static_cast<double>(indices[i] + 1));
      batch.labels[static_cast<int64_t>(i)] = kLabels[static_cast<size_t>(indices[i] % 2)];
    }
    return batch;
  }
};

int count_labels(const wire::Frames& frames) {
  int found = 0;
  for (const wire::Frame& frame : frames) {
    const std::string_view bytes(reinterpret_cast<const char*>(frame.data()), frame.size());
    for (const int64_t label : MarkedDataset::kLabels) {
      const std::string_view pattern(reinterpret_cast<const char*>(&label), sizeof label);
      for (size_t at = bytes.find(pattern); at != bytes.npos; at = bytes.find(pattern, at + 1)) ++found;
    }
  }
  return found;
}

std::vector<at::Tensor> tensors_of(const wire::Body& body) {
  std::vector<at::Tensor> tensors;
  const auto add = [&](const NamedTensors& named) {
    for (const NamedTensor& entry : named) tensors.push_back(entry.tensor);
  };
  std::visit(
      [&](const auto& of) {
        using T = std::decay_t<decltype(of)>;
        if constexpr (std::is_same_v<T, wire::Activations>) tensors = {of.activations, of.labels};
        if constexpr (std::is_same_v<T, wire::Gradients>) tensors = {of.gradient};
        if constexpr (std::is_same_v<T, wire::Outputs>) tensors = {of.outputs};
        if constexpr (std::is_same_v<T, wire::OutputGradients>) tensors = {of.gradient};
        if constexpr (std::is_same_v<T, wire::BeginRound>) {
          add(of.weights);
          add(of.control);
        }
        if constexpr (std::is_same_v<T, wire::WeightUpdate>) {
          add(of.weights);
          add(of.control_change);
        }
        if constexpr (std::is_same_v<T, wire::Evaluate> || std::is_same_v<T, wire::Finish>) add(of.weights);
      },
      body);
  return tensors;
}

int64_t tensor_bytes(const wire::Body& body) {
  int64_t bytes = 0;
  for (const at::Tensor& tensor : tensors_of(body)) {
    bytes += tensor.numel() * static_cast<int64_t>(tensor.element_size());
  }
  return bytes;
}

/// Header, body without tensors and the tensors' descriptions; weights are a few tensors in one message.
constexpr int64_t kFraming = 400;

/// Bytes of tensors (or messages) by round, client and direction (up first), as they crossed.
using Crossed = std::map<std::pair<uint32_t, std::string>, std::pair<int64_t, int64_t>>;

aggregator::SessionOptions large_batches(const Flow& flow) {
  auto options = flow_options(flow);
  options.batch_size = flow.algorithm == "parallel" ? 96 : 32;
  return options;
}

const std::vector<int> kExamples = {96, 96, 96};

}  // namespace

TEST_SUITE("tools/traffic") {
  TEST_CASE("U-shaped: no label goes up, neither as a tensor nor as bytes anywhere in a frame") {
    for (const int head : {0, 1}) {
      for (const std::string algorithm : {"parallel", "splitfed-v1", "splitfed-v2", "relay"}) {
        CAPTURE(head);
        CAPTURE(algorithm);
        auto options = base_options("mlp:hidden=8-8", 1, 2);
        options.plan.algorithm = find_algorithm(algorithm).value();
        options.plan.num_classes = MarkedDataset::kClasses;
        options.plan.augment = "";
        options.plan.normalize = "";
        options.plan.head_blocks = head;
        options.plan.rounds = 1;
        options.batch_size = 4;
        SessionNetwork network(options);
        for (const std::string name : {"client-1", "client-2"}) {
          network.add(name, std::make_shared<MarkedDataset>(), std::make_shared<MarkedDataset>());
        }
        int labels = 0, integers = 0;
        std::set<wire::MessageType> kinds;
        network.on_frames_up = [&](size_t, const wire::Frames& frames) {
          labels += count_labels(frames);
          const wire::Message message = wire::decode(frames, {}).value();
          kinds.insert(wire::type_of(message.body));
          for (const at::Tensor& tensor : tensors_of(message.body)) {
            if (!at::isFloatingType(tensor.scalar_type())) integers += static_cast<int>(tensor.numel());
          }
        };
        network.connect_all();
        REQUIRE(network.run());
        CHECK(network.session().completed());
        CHECK(kinds.contains(wire::MessageType::kActivations));
        CHECK(kinds.contains(wire::MessageType::kWeightUpdate));
        CHECK(kinds.contains(wire::MessageType::kEvaluated));
        CHECK(kinds.contains(wire::MessageType::kOutputGradients) == (head == 1));
        // The search finds what is there: without a head every label of training and evaluation goes up.
        CHECK(labels == (head == 1 ? 0 : 64));
        CHECK(integers == (head == 1 ? 0 : 64));
      }
    }
  }

  TEST_CASE(
      "no gradient comes down where the device trains on its own loss, a receipt for each upload does") {
    for (const Flow& flow : all_flows()) {
      if (flow.objective == EdgeObjective::kEndToEnd && flow.algorithm != "federated") continue;
      CAPTURE(flow.name);
      SessionNetwork network(large_batches(flow));
      add_clients(network, kExamples);
      std::map<wire::MessageType, int> up, down;
      network.on_message = [&](size_t, bool goes_up, wire::Message& message) {
        ++(goes_up ? up : down)[wire::type_of(message.body)];
        return Fate::kDeliver;
      };
      network.connect_all();
      REQUIRE(network.run());
      CHECK(down[wire::MessageType::kGradients] == 0);
      CHECK(down[wire::MessageType::kOutputs] == 0);
      CHECK(down[wire::MessageType::kReceipt] == up[wire::MessageType::kActivations]);
      CHECK((up[wire::MessageType::kActivations] > 0) == (flow.algorithm != "federated"));
      CHECK(up[wire::MessageType::kTrained] == 6);
    }
  }

  TEST_CASE("the tensors that cross are the formula's bytes exactly, and framing adds under 3 %") {
    for (const Flow& flow : all_flows()) {
      CAPTURE(flow.name);
      SessionNetwork network(large_batches(flow));
      add_clients(network, kExamples);
      Crossed crossed, messages;
      network.on_message = [&](size_t edge, bool up, wire::Message& message) {
        const std::pair key{message.key.round, client_name(static_cast<int>(edge))};
        ++(up ? messages[key].first : messages[key].second);
        const bool of_round = !std::holds_alternative<wire::Finish>(message.body);
        if (of_round) (up ? crossed[key].first : crossed[key].second) += tensor_bytes(message.body);
        return Fate::kDeliver;
      };
      network.connect_all();
      const auto start = network.now();
      REQUIRE(network.run());
      CHECK(network.now() == start);  // no heartbeats among the bytes
      REQUIRE(network.observer.clients.size() == 6);
      for (const ClientRecord& record : network.observer.clients) {
        CAPTURE(record.client);
        CAPTURE(record.round);
        const std::pair key{record.round, record.client};
        const auto [up, down] = crossed.at(key);
        CHECK(record.bytes_up_formula == up);
        CHECK(record.bytes_down_formula == down);
        CHECK(record.bytes_up > up);
        CHECK(record.bytes_down > down);
        CHECK(record.bytes_up - up < kFraming * messages.at(key).first);
        CHECK(record.bytes_down - down < kFraming * messages.at(key).second);
        const int64_t framing = record.bytes_up - up + record.bytes_down - down;
        CHECK(static_cast<double>(framing) < 0.03 * static_cast<double>(up + down));
      }
      for (const RoundRecord& round : network.observer.rounds) {
        int64_t up = 0, down = 0, up_formula = 0, down_formula = 0;
        for (const ClientRecord& record : network.observer.clients) {
          if (record.round != round.round) continue;
          up += record.bytes_up;
          down += record.bytes_down;
          up_formula += record.bytes_up_formula;
          down_formula += record.bytes_down_formula;
        }
        CHECK(round.bytes_up_formula == up_formula);
        CHECK(round.bytes_down_formula == down_formula);
        CHECK(round.bytes_up == up);
        CHECK(round.bytes_down == down);
      }
    }
  }

  TEST_CASE("what control variates add to the merge is in the formula too") {
    for (const std::string algorithm : {"federated", "parallel", "splitfed-v1"}) {
      CAPTURE(algorithm);
      auto options = large_batches({algorithm, algorithm});
      options.plan.optimizer = {.learning_rate = 0.05};
      options.strategy = "scaffold";
      options.plan.control_variates = true;
      SessionNetwork network(options);
      add_clients(network, kExamples);
      Crossed crossed;
      network.on_message = [&](size_t edge, bool up, wire::Message& message) {
        auto& bytes = crossed[{message.key.round, client_name(static_cast<int>(edge))}];
        const bool of_round = !std::holds_alternative<wire::Finish>(message.body);
        if (of_round) (up ? bytes.first : bytes.second) += tensor_bytes(message.body);
        return Fate::kDeliver;
      };
      network.connect_all();
      REQUIRE(network.run());
      for (const ClientRecord& record : network.observer.clients) {
        CAPTURE(record.client);
        CAPTURE(record.round);
        CHECK(record.bytes_up_formula == crossed.at({record.round, record.client}).first);
        CHECK(record.bytes_down_formula == crossed.at({record.round, record.client}).second);
      }
    }
  }
}
