#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tandem/core/planning/plan.h"

namespace tandem {

/// What a plan of a chain costs, by the definitions in docs/planning.md. Times in ms.
struct ChainCost {
  double compute_ms = 0;   ///< of all stages, forward and backward
  double transfer_ms = 0;  ///< between stages, of the input, and of gradients back; without the return
  double return_ms = 0;
  double forward_bottleneck_ms = 0;   ///< the busiest device or directed link, forward
  double backward_bottleneck_ms = 0;  ///< the same backward; 0 in inference
  double bytes = 0;                   ///< sent in one pass by all devices
  size_t devices = 0;                 ///< that hold a block

  double latency_ms() const { return compute_ms + transfer_ms + return_ms; }
  double throughput_ms() const { return forward_bottleneck_ms + backward_bottleneck_ms; }
};

/// An objective of a chain is latency x latency_ms + bottleneck x throughput_ms.
struct ChainWeights {
  double latency = 1;
  double bottleneck = 0;

  double value(double latency_ms, double throughput_ms) const {
    return latency * latency_ms + bottleneck * throughput_ms;
  }
  double value(const ChainCost& cost) const { return value(cost.latency_ms(), cost.throughput_ms()); }
};

/// `objective`: kLatency, kThroughput or kPipeline.
ChainWeights chain_weights(PlanObjective objective, const ChainPlaces& chain);

/// The time of `bytes` over a link.
double transfer_ms(const PlanLink& link, double bytes);

/// The bytes that cross the boundary before block `cut`: the input for 0.
double bytes_before(const Problem& problem, size_t cut);

/// The cost of stages that cover all blocks in order, two neighbours on different devices. `problem` must be
/// a chain. Constraints are not looked at.
ChainCost chain_cost(const Problem& problem, const std::vector<PlanStage>& stages);

/// Which constraint of the problem the stages break, in words; nullopt when they break none.
std::optional<std::string> broken_constraint(const Problem& problem, const std::vector<PlanStage>& stages);

/// The memory that each device holds.
std::vector<double> chain_memory(const Problem& problem, const std::vector<PlanStage>& stages);

/// The device of each block.
std::vector<size_t> device_of_blocks(const std::vector<PlanStage>& stages, size_t blocks);
/// The reverse.
std::vector<PlanStage> stages_of(const std::vector<size_t>& device_of_block);

/// Whether the first plan wins a tie: fewer devices, then fewer bytes, then lower ids from the first block on.
bool wins_tie(const Problem& problem, const std::vector<PlanStage>& first, const std::vector<PlanStage>& second);

}  // namespace tandem
