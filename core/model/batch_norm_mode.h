#pragma once

#include <cstdint>

namespace tandem {

/// What happens to batch norm in federated training: one explicit choice for the whole run. Written values:
/// never renumber.
enum class BatchNormMode : uint8_t {
  kAverage = 0,  ///< its statistics are averaged as its weights are
  kLocal = 1,    ///< FedBN (Li et al., ICLR 2021): weights and statistics stay where they are trained
  kFreeze = 2,   ///< both stay what they were at the start
};

}  // namespace tandem
