#pragma once

#include <map>

#include <nlohmann/json_fwd.hpp>

#include "tandem/aggregator/rounds/round_planner.h"
#include "tandem/aggregator/session/session_options.h"
#include "tandem/core/training/lr_schedule.h"

namespace tandem::aggregator {

/// The learning rate schedules of a run with rounds. Each counts its owner's steps, and a tail may make more
/// than any device, or fewer: so there is one for devices and one for tails. Where they span the run, their
/// period is the number of steps that the owner is expected to make in all rounds, less the warm-up. It
/// follows from the first round's plan and the clients that are there then, and stands from then on; it is
/// rounded nowhere. Not thread-safe.
///
/// Where S of n clients are drawn for each round, a device is expected in R S / n of R rounds. What counts of
/// a device, and of a replica of the tail, are the steps of the client that has most. A shared tail makes the
/// steps of S average clients. `parallel` joins clients: its steps are those of the first round and, unless
/// --local-steps says how many there are, in proportion to the examples of S average clients.
class RunSchedules {
 public:
  /// `options` must outlive this.
  explicit RunSchedules(const SessionOptions& options);

  /// Whether a first round was planned.
  bool known() const { return known_; }
  /// Takes the first round's plan, by `planner`, and the clients it was drawn from. Requires !known().
  void fix(const RoundPlan& first, const std::map<ClientId, RoundPlanner::ClientData>& present,
           const RoundPlanner& planner);

  const LrScheduleOptions& device() const { return device_; }
  const LrScheduleOptions& tail() const { return tail_; }

  /// What a checkpoint keeps, among other values.
  nlohmann::json state() const;
  /// Throws nlohmann's exceptions on values without it.
  void load_state(const nlohmann::json& values);

 private:
  static void span(LrScheduleOptions& schedule, double steps);

  const SessionOptions& options_;
  LrScheduleOptions device_;
  LrScheduleOptions tail_;
  bool known_ = false;
};

}  // namespace tandem::aggregator
