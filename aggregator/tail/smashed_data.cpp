#include "tandem/aggregator/tail/smashed_data.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <string>
#include <unordered_map>

#include <nlohmann/json.hpp>

namespace tandem::aggregator {
namespace {

/// Begins the names of the tensors in a checkpoint.
std::string prefix_of(const ClientId& client, size_t batch) {
  return "smashed." + client.name + "/" + std::to_string(batch) + "/";
}

}  // namespace

SmashedData::SmashedData(int64_t max_bytes, size_t clients)
    : share_(max_bytes / static_cast<int64_t>(std::max<size_t>(1, clients))) {}

void SmashedData::keep(const ClientId& client, const at::Tensor& activations, const at::Tensor& labels) {
  Kept& own = kept_[client];
  // Copies: a received frame may be part of a larger buffer.
  own.batches.push_back(
      {.activations = activations.clone(at::MemoryFormat::Preserve), .labels = labels.clone()});
  own.bytes += own.batches.back().bytes();
  while (own.batches.size() > 1 && own.bytes > share_) {
    own.bytes -= own.batches.front().bytes();
    own.batches.pop_front();
  }
}

std::vector<SmashedBatch> SmashedData::batches(const std::vector<ClientId>& clients) const {
  std::vector<SmashedBatch> batches;
  for (const ClientId& client : clients) {
    const auto own = kept_.find(client);
    if (own == kept_.end()) continue;
    batches.insert(batches.end(), own->second.batches.begin(), own->second.batches.end());
  }
  return batches;
}

nlohmann::json SmashedData::state(NamedTensors& tensors) const {
  nlohmann::json counts = nlohmann::json::object();
  for (const auto& [client, own] : kept_) {
    counts[client.name] = own.batches.size();
    for (size_t i = 0; i < own.batches.size(); ++i) {
      tensors.push_back({prefix_of(client, i) + "activations", own.batches[i].activations});
      tensors.push_back({prefix_of(client, i) + "labels", own.batches[i].labels});
    }
  }
  return counts;
}

Result<void> SmashedData::load_state(const nlohmann::json& state, const NamedTensors& tensors) {
  std::unordered_map<std::string, at::Tensor> saved;
  for (const NamedTensor& entry : tensors) saved.emplace(entry.name, entry.tensor);
  for (const auto& [name, count] : state.items()) {
    const ClientId client{name};
    Kept& own = kept_[client];
    for (size_t i = 0; i < count.get<size_t>(); ++i) {
      const auto activations = saved.find(prefix_of(client, i) + "activations");
      const auto labels = saved.find(prefix_of(client, i) + "labels");
      if (activations == saved.end() || labels == saved.end()) {
        return Error{ErrorCode::kCorrupt, "the checkpoint lacks smashed data of " + name};
      }
      own.batches.push_back({.activations = activations->second, .labels = labels->second});
      own.bytes += own.batches.back().bytes();
    }
  }
  return {};
}

}  // namespace tandem::aggregator
