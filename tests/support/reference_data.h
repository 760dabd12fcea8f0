#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <ATen/ATen.h>

#include "tandem/aggregator/rounds/round_planner.h"
#include "tandem/aggregator/session/session_options.h"
#include "tandem/augment/pipeline.h"
#include "tandem/core/base/random.h"
#include "tandem/core/data/batch_loader.h"
#include "tandem/datasets/data_source.h"

namespace tandem::testing {

/// Synthetic images in four classes.
inline std::shared_ptr<const Dataset> images(int examples, int size = 8, int channels = 1, int seed = 1) {
  return datasets::open_dataset("synthetic:images,examples=" + std::to_string(examples) +
                                    ",classes=4,size=" + std::to_string(size) +
                                    ",channels=" + std::to_string(channels) + ",seed=" + std::to_string(seed),
                                datasets::Split::kTrain)
      .value();
}

/// "client-1" for 0.
inline std::string client_name(int i) {
  return "client-" + std::to_string(i + 1);
}

/// The clients' data as the runs see them: batches by the same seeds, sizes by the same draw.
class ReferenceData {
 public:
  ReferenceData(const aggregator::SessionOptions& options, const std::vector<int>& examples, bool batch_norm)
      : options_(options), planner_(aggregator::planner_options(options, batch_norm ? 2u : 1u)) {
    for (size_t i = 0; i < examples.size(); ++i) {
      const std::string name = client_name(static_cast<int>(i));
      counts_[{name}] = examples[i];
      datasets_.push_back(images(examples[i], 8, 1, static_cast<int>(i) + 1));
      augmenters_.push_back(
          augment::build_pipeline(options.plan.augment, options.plan.normalize, {1, 8, 8}).value());
      loaders_.push_back(std::make_unique<BatchLoader>(
          *datasets_.back(), *augmenters_.back(),
          BatchLoaderOptions{.run_seed = options.plan.seed, .client_hash = hash_name(name), .prefetch = 0}));
      positions_.push_back(0);
    }
  }

  /// Joined batches of the next round, clients in order.
  std::vector<Batch> next_round() {
    const aggregator::RoundPlan plan = plan_round();
    size_t client = 0;
    std::vector<Batch> batches;
    for (uint32_t step = 0; step < plan.steps(); ++step) {
      std::vector<at::Tensor> inputs, labels;
      client = 0;
      for (const auto& [id, sizes] : plan.batch_sizes) {
        const Batch part = loaders_[client++]->next();
        if (sizes[step] == 0) continue;
        inputs.push_back(part.inputs);
        labels.push_back(part.labels);
      }
      batches.push_back({at::cat(inputs), at::cat(labels)});
    }
    return batches;
  }

  /// Batches of the next round for each client, and whose turn comes when.
  struct OwnBatches {
    std::vector<std::vector<Batch>> of_client;
    std::vector<size_t> turns;
  };
  OwnBatches next_round_of_each() {
    const aggregator::RoundPlan plan = plan_round();
    OwnBatches batches;
    std::vector<ClientId> names;
    for (const auto& [id, sizes] : plan.batch_sizes) {
      std::vector<Batch>& own = batches.of_client.emplace_back();
      for (size_t step = 0; step < sizes.size(); ++step) own.push_back(loaders_[names.size()]->next());
      names.push_back(id);
    }
    for (const ClientId& client : plan.turns) {
      batches.turns.push_back(
          static_cast<size_t>(std::find(names.begin(), names.end(), client) - names.begin()));
    }
    return batches;
  }

 private:
  aggregator::RoundPlan plan_round() {
    std::map<ClientId, aggregator::RoundPlanner::ClientData> clients;
    size_t client = 0;
    for (const auto& [id, count] : counts_) {
      clients[id] = {.examples = count, .position = positions_[client++]};
    }
    aggregator::RoundPlan plan = planner_.plan(clients, ++round_);
    client = 0;
    for (const auto& [id, sizes] : plan.batch_sizes) {
      loaders_[client]->start(positions_[client], sizes);
      for (const uint32_t size : sizes) positions_[client] += size;
      ++client;
    }
    return plan;
  }

  uint32_t round_ = 0;
  aggregator::SessionOptions options_;
  aggregator::RoundPlanner planner_;
  std::map<ClientId, int64_t> counts_;
  std::vector<std::shared_ptr<const Dataset>> datasets_;
  std::vector<std::unique_ptr<const Augmenter>> augmenters_;
  std::vector<std::unique_ptr<BatchLoader>> loaders_;
  std::vector<uint64_t> positions_;
};

}  // namespace tandem::testing
