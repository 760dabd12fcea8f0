#pragma once

#include <cstdint>
#include <set>
#include <string>

#include "tandem/aggregator/session/run_observer.h"
#include "tandem/core/run/run_status.h"

namespace tandem::aggregator {

/// Keeps a RunStatus up to date with what an observer hears, and passes everything on to the next observer.
/// Ready means: listening, and enough clients are there for a round. Lives on the session's thread.
class StatusObserver : public RunObserver {
 public:
  /// `next` and `status` must outlive it. `clients`: for the first round, `fewest`: for each later one.
  StatusObserver(RunObserver& next, RunStatus& status, int clients, int fewest);

  /// The socket is bound: from now on it can be ready.
  void listening();
  /// A turn of the main loop: whether the session has begun its first round, and how many messages it has
  /// refused so far.
  void turn(bool started, uint64_t refused_messages);

  Result<void> on_plan(const TrainingPlan& plan, int num_blocks) override;
  Result<void> on_event(const EventRecord& event) override;
  void on_step(const StepReport& report) override;
  Result<void> on_round(const RoundReport& report) override;
  void on_checkpoint(double seconds) override;

 private:
  void count(uint32_t steps, int64_t examples);
  void show_readiness();

  RunObserver& next_;
  RunStatus& status_;
  int clients_;
  int fewest_;
  bool listening_ = false;
  bool started_ = false;
  std::set<std::string> present_;
  uint64_t refused_messages_ = 0;
  /// Counted already, of the round under way.
  uint32_t round_ = 0;
  uint32_t steps_ = 0;
  int64_t examples_ = 0;
};

}  // namespace tandem::aggregator
