#pragma once

#include <nlohmann/json_fwd.hpp>

#include "tandem/aggregator/round_planner.h"
#include "tandem/aggregator/session_options.h"
#include "tandem/core/training/lr_schedule.h"

namespace tandem::aggregator {

/// The learning rate schedules of a run with rounds. Each counts its owner's steps, and a tail may make more
/// than any device, or fewer: so there is one for devices and one for tails. Where they span the run their
/// period follows from the plan of the first round, and stands from then on. Not thread-safe.
class RunSchedules {
 public:
  /// `options` must outlive this.
  explicit RunSchedules(const SessionOptions& options);

  /// Whether a first round was planned.
  bool known() const { return known_; }
  /// Takes the first round's plan. Requires !known().
  void fix(const RoundPlan& first);

  const LrScheduleOptions& device() const { return device_; }
  const LrScheduleOptions& tail() const { return tail_; }

  /// What a checkpoint keeps, among other values.
  nlohmann::json state() const;
  /// Throws nlohmann's exceptions on values without it.
  void load_state(const nlohmann::json& values);

 private:
  void span_run(LrScheduleOptions& schedule, double steps_a_round) const;

  const SessionOptions& options_;
  LrScheduleOptions device_;
  LrScheduleOptions tail_;
  bool known_ = false;
};

}  // namespace tandem::aggregator
