#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tandem/aggregator/session/session_options.h"
#include "tandem/core/base/form.h"
#include "tandem/core/base/result.h"
#include "tandem/core/training/lr_schedule.h"
#include "tandem/core/training/optimizer_specification.h"

namespace tandem::aggregator {

// What the flags that hold more than one number take, each with the forms that its row in the table shows.
// All errors are kInvalidArgument and name the flag: an unknown name or parameter, a missing one, or a value
// and its range.

/// What --algorithm says: the schedule, and how many steps a client may have in flight.
struct AlgorithmChoice {
  Algorithm algorithm = Algorithm::kParallel;
  uint32_t window = 1;
};
const std::vector<Form>& algorithm_forms();
Result<AlgorithmChoice> parse_algorithm(const std::string& text);

/// What --lr-schedule says.
struct LrScheduleChoice {
  LrScheduleOptions options;
  /// The cosine ends with the run: `options.period_steps` is left open.
  bool spans_run = false;
};
const std::vector<Form>& lr_schedule_forms();
/// Refuses cosine:STEPS and step:EVERY:FACTOR, as earlier versions took them, with the present spelling.
Result<LrScheduleChoice> parse_lr_schedule(const std::string& text);

/// What --edge-objective says.
struct EdgeObjectiveChoice {
  EdgeObjective objective = EdgeObjective::kEndToEnd;
  std::string auxiliary_head = "linear";
  uint32_t tail_interval = 1;
  AlignmentSchedule alignment;
};
const std::vector<Form>& edge_objective_forms();
/// Also refuses a learning rate of a fit that makes no pass.
Result<EdgeObjectiveChoice> parse_edge_objective(const std::string& text);

/// What --stragglers says. A deadline left out stands at its default, and is put off while what it waits for
/// is on its way.
struct StragglerChoice {
  StragglerRule rule = StragglerRule::kDrop;
  std::optional<std::chrono::milliseconds> step_deadline;
  std::optional<std::chrono::milliseconds> update_deadline;
  std::chrono::milliseconds round_deadline{0};  ///< 0: never
};
const std::vector<Form>& straggler_forms();
Result<StragglerChoice> parse_stragglers(const std::string& text);

}  // namespace tandem::aggregator
