#pragma once

#include <cstdint>
#include <vector>

#include "tandem/core/base/result.h"
#include "tandem/core/run/run_directory.h"
#include "tandem/core/training/training_plan.h"

namespace tandem::aggregator {

/// The round under way, for a progress display.
struct StepReport {
  uint32_t round = 0;
  uint32_t rounds = 0;
  uint32_t steps_done = 0;
  uint32_t steps = 0;
  double loss = 0;      ///< mean over the round's examples so far
  double accuracy = 0;  ///< 0..1, likewise
  int64_t examples = 0;
  int64_t bytes_up = 0;  ///< of the run
  int64_t bytes_down = 0;
};

/// What a complete round leaves.
struct RoundReport {
  RoundRecord record;
  std::vector<ClientRecord> clients;
};

/// The event of a checkpoint that the disk did not take: somebody has to make room.
inline constexpr const char* kNotKept = "not-kept";

/// Hears what happens in a session, on the session's thread. An error it returns ends the run as failed.
class RunObserver {
 public:
  virtual ~RunObserver() = default;
  /// The model is defined: the plan is complete.
  virtual Result<void> on_plan(const TrainingPlan& plan, int num_blocks) = 0;
  virtual Result<void> on_event(const EventRecord& event) = 0;
  virtual void on_step(const StepReport& report) = 0;
  virtual Result<void> on_round(const RoundReport& report) = 0;
  /// The run was kept, which took so long.
  virtual void on_checkpoint(double seconds) { (void)seconds; }
};

}  // namespace tandem::aggregator
