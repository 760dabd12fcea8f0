#pragma once

#include <chrono>
#include <functional>
#include <string>

#include "tandem/aggregator/session/aggregator_session.h"
#include "tandem/aggregator/session/run_observer.h"
#include "tandem/core/base/result.h"
#include "tandem/core/run/progress.h"
#include "tandem/core/run/run_directory.h"

namespace tandem::aggregator {

/// Writes a run's directory (configuration, metrics, model, summary, report) and shows its progress. A disk
/// that does not take a line ends no training: the line waits (run_directory.h), and a warning says so. Lives
/// on the session's thread.
class RunRecorder : public RunObserver {
 public:
  /// `resolved_config`: the flags in force, as TOML.
  RunRecorder(RunDirectory directory, const std::string& resolved_config, bool quiet);

  /// The content of plan.json, written as soon as the run begins.
  void set_plan_file(std::string content) { plan_file_ = std::move(content); }

  Result<void> on_plan(const TrainingPlan& plan, int num_blocks) override;
  Result<void> on_event(const EventRecord& event) override;
  void on_step(const StepReport& report) override;
  Result<void> on_round(const RoundReport& report) override;

  /// The end of the run: model.safetensors, front and tail, summary.json, report.html, the closing table.
  /// Waits for a disk that does not take them (write_patiently) unless `should_stop`. A run that recorded
  /// nothing leaves nothing behind.
  Result<void> finish(const AggregatorSession& session, const std::function<bool()>& should_stop);

  Progress& progress() { return progress_; }

 private:
  Result<void> save_model(const AggregatorSession& session);
  Result<void> save_results(const AggregatorSession& session, const RunSummary& summary);
  Result<void> watch(Result<void> written);

  RunDirectory directory_;
  std::string resolved_config_;
  std::string plan_file_;  // empty: none
  Progress progress_;
  TrainingPlan plan_;
  std::chrono::steady_clock::time_point round_started_;
  uint32_t round_shown_ = 0;
  int64_t examples_at_start_ = 0;
  double finished_round_seconds_ = 0;
  uint32_t finished_rounds_ = 0;
  bool lines_wait_ = false;
  std::chrono::steady_clock::time_point next_complaint_;
};

}  // namespace tandem::aggregator
