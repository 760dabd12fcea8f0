// What the tests of the strategies share. Holds no checks: include it before support/test.h.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <ATen/ATen.h>

#include "tandem/aggregator/strategies/strategy.h"

namespace tandem::aggregator::testing {

inline std::unique_ptr<Strategy> make(const std::string& specification, std::set<std::string> buffers = {},
                                      double momentum = 0) {
  return std::move(make_strategy({specification, std::move(buffers), momentum})).value();
}

inline at::Tensor vec(const std::vector<double>& values, at::ScalarType dtype = at::kFloat) {
  return at::tensor(values, at::kDouble).to(dtype);
}

/// One parameter, "w".
inline NamedTensors weights(const std::vector<double>& values, at::ScalarType dtype = at::kFloat) {
  return {{"w", vec(values, dtype)}};
}

inline ClientUpdate update(const std::string& client, NamedTensors tensors, uint64_t examples = 1) {
  ClientUpdate made;
  made.client = {client};
  made.weights = std::move(tensors);
  made.examples = examples;
  return made;
}

/// One update per value, clients "a", "b", ...; each brings one parameter with one element.
inline std::vector<ClientUpdate> scalars(const std::vector<double>& values) {
  std::vector<ClientUpdate> updates;
  for (size_t i = 0; i < values.size(); ++i) {
    updates.push_back(update(std::string(1, static_cast<char>('a' + i)), weights({values[i]})));
  }
  return updates;
}

/// begin, add each, merge; every step must succeed.
inline NamedTensors merged(Strategy& strategy, const NamedTensors& global,
                           const std::vector<ClientUpdate>& updates) {
  strategy.begin(global);
  for (const ClientUpdate& one : updates) strategy.add(one).value();
  return std::move(strategy.merge()).value();
}

/// Largest |tensor - expected|; infinite where the sizes differ.
inline double error_of(const at::Tensor& tensor, const std::vector<double>& expected) {
  const at::Tensor flat = tensor.detach().to(at::kDouble).contiguous().flatten();
  if (flat.numel() != static_cast<int64_t>(expected.size())) return INFINITY;
  double largest = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double difference = std::abs(flat[static_cast<int64_t>(i)].item<double>() - expected[i]);
    if (!(difference <= largest)) largest = difference;
  }
  return largest;
}

inline bool same(const NamedTensors& a, const NamedTensors& b) {
  if (!check_same_layout(a, b)) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (!at::equal(a[i].tensor, b[i].tensor)) return false;
  }
  return true;
}

}  // namespace tandem::aggregator::testing
