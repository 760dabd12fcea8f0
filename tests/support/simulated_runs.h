// Complete runs in one process and how their results are compared, shared by the tests of exactness.
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tandem/tools/simulation.h"
//
#include "support/recording_observer.h"
#include "support/reference_data.h"
#include "support/test.h"

namespace tandem::testing {

inline std::vector<tools::VirtualEdge> make_edges(const std::vector<int>& examples) {
  std::vector<tools::VirtualEdge> edges;
  for (size_t i = 0; i < examples.size(); ++i) {
    const int index = static_cast<int>(i);
    edges.push_back({client_name(index), images(examples[i], 8, 1, index + 1)});
  }
  return edges;
}

/// Small, with everything on that exactness could trip over: augmentation, momentum, weight decay.
inline aggregator::SessionOptions base_options(const std::string& model, int cut, int clients) {
  aggregator::SessionOptions options;
  options.plan.model = model;
  options.plan.cut = cut;
  options.plan.rounds = 2;
  options.plan.seed = 7;
  options.plan.num_classes = 4;
  options.plan.augment = "crop:1,flip";
  options.plan.normalize = "0.5/0.25";
  options.plan.optimizer = {.learning_rate = 0.05, .momentum = 0.9, .weight_decay = 1e-3};
  options.clients = clients;
  options.min_clients = clients;
  options.batch_size = 16;
  return options;
}

/// As a run takes weights to start from; nothing for none.
inline std::optional<InitialWeights> to_start_from(const NamedTensors& weights) {
  if (weights.empty()) return std::nullopt;
  return InitialWeights{weights, "--init FILE", ""};
}

/// Weights of the whole merged model after a complete run. Synthetic images, so many for each client. Without
/// initial weights it starts from those of the seed.
inline NamedTensors run(const aggregator::SessionOptions& options, const std::vector<int>& examples,
                        tools::SimulationOptions simulation_options = {},
                        RecordingObserver* observer = nullptr, const NamedTensors& initial_weights = {}) {
  RecordingObserver own;
  tools::Simulation simulation(options, observer ? *observer : own, nullptr, to_start_from(initial_weights),
                               make_edges(examples), simulation_options);
  const auto ran = simulation.run();
  REQUIRE_MESSAGE(ran.has_value(), (ran ? "" : ran.error().message));
  REQUIRE(simulation.session().completed());
  return snapshot(simulation.session().weights());
}

inline void check_bitwise_equal(const NamedTensors& actual, const NamedTensors& expected) {
  REQUIRE(actual.size() == expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    CAPTURE(actual[i].name);
    CHECK(actual[i].name == expected[i].name);
    CHECK(at::equal(actual[i].tensor, expected[i].tensor));
  }
}

inline double largest_difference(const NamedTensors& actual, const NamedTensors& expected) {
  double largest = 0;
  for (size_t i = 0; i < actual.size(); ++i) {
    const at::Tensor difference = actual[i].tensor.to(at::kDouble) - expected[i].tensor.to(at::kDouble);
    largest = std::max(largest, difference.abs().max().item<double>());
  }
  return largest;
}

inline ModelPart whole_model(const aggregator::SessionOptions& options) {
  return define_model(options.plan.model, {1, 8, 8}, options.plan.num_classes)->build(options.plan.seed);
}

}  // namespace tandem::testing
