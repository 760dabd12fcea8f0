#include "tandem/core/partition/client_partitions.h"

#include <algorithm>
#include <utility>

namespace tandem {

ClientPartitions::ClientPartitions(ModelPartition everybody)
    : cuts_(everybody.front().last), distinct_{std::move(everybody)} {}

ClientPartitions::ClientPartitions(ClientCuts cuts, std::vector<ModelPartition> distinct)
    : cuts_(std::move(cuts)), distinct_(std::move(distinct)) {}

Result<ClientPartitions> ClientPartitions::cut_at(const ModelDefinition& definition, const ClientCuts& cuts,
                                                  int head_blocks) {
  std::vector<ModelPartition> distinct;
  for (const int cut : cuts.distinct()) {
    auto partition = ModelPartition::cut_at(definition, cut, head_blocks);
    if (!partition) return partition.error();
    distinct.push_back(std::move(*partition));
  }
  return ClientPartitions(cuts, std::move(distinct));
}

const ModelPartition& ClientPartitions::of(const ClientId& client) const {
  if (equal()) return distinct_.front();
  return *std::find_if(distinct_.begin(), distinct_.end(), [cut = cuts_.of(client)](const auto& partition) {
    return partition.front().last == cut;
  });
}

std::vector<int> ClientPartitions::entries() const {
  std::vector<int> entries;
  for (const ModelPartition& partition : distinct_) {
    if (const auto tail = partition.tail()) entries.push_back(tail->first);
  }
  return entries;
}

}  // namespace tandem
