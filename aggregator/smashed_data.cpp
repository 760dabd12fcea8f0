#include "tandem/aggregator/smashed_data.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <string>
#include <utility>

#include <nlohmann/json.hpp>

namespace tandem::aggregator {
namespace {

/// Begins the names of the tensors in a checkpoint.
std::string prefix_of(const ClientId& client, size_t batch) {
  return "smashed." + client.name + "/" + std::to_string(batch) + "/";
}

int64_t bytes_of(const std::deque<SmashedBatch>& batches) {
  int64_t bytes = 0;
  for (const SmashedBatch& batch : batches) bytes += batch.bytes();
  return bytes;
}

}  // namespace

SmashedData::SmashedData(int64_t max_bytes, size_t clients)
    : share_(max_bytes / static_cast<int64_t>(std::max<size_t>(1, clients))) {}

void SmashedData::keep(const ClientId& client, const at::Tensor& activations, const at::Tensor& labels) {
  // Copies: a received frame may be part of a larger buffer.
  std::deque<SmashedBatch>& own = kept_[client];
  own.push_back({.activations = activations.clone(at::MemoryFormat::Preserve), .labels = labels.clone()});
  int64_t bytes = bytes_of(own);
  while (own.size() > 1 && bytes > share_) {
    bytes -= own.front().bytes();
    own.pop_front();
  }
}

std::vector<SmashedBatch> SmashedData::batches() const {
  std::vector<SmashedBatch> batches;
  for (const auto& [client, own] : kept_) batches.insert(batches.end(), own.begin(), own.end());
  return batches;
}

std::vector<SmashedBatch> SmashedData::batches_of(const ClientId& client) const {
  const auto own = kept_.find(client);
  if (own == kept_.end()) return {};
  return {own->second.begin(), own->second.end()};
}

nlohmann::json SmashedData::state(NamedTensors& tensors) const {
  nlohmann::json counts = nlohmann::json::object();
  for (const auto& [client, own] : kept_) {
    counts[client.name] = own.size();
    for (size_t i = 0; i < own.size(); ++i) {
      tensors.push_back({prefix_of(client, i) + "activations", own[i].activations});
      tensors.push_back({prefix_of(client, i) + "labels", own[i].labels});
    }
  }
  return counts;
}

Result<void> SmashedData::load_state(const nlohmann::json& state, const NamedTensors& tensors) {
  for (const auto& [name, count] : state.items()) {
    const ClientId client{name};
    for (size_t i = 0; i < count.get<size_t>(); ++i) {
      const NamedTensors batch = without_prefix(tensors, prefix_of(client, i));
      const at::Tensor* activations = find_tensor(batch, "activations");
      const at::Tensor* labels = find_tensor(batch, "labels");
      if (activations == nullptr || labels == nullptr) {
        return Error{ErrorCode::kCorrupt, "the checkpoint lacks smashed data of " + name};
      }
      kept_[client].push_back({.activations = *activations, .labels = *labels});
    }
  }
  return {};
}

}  // namespace tandem::aggregator
