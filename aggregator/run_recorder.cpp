#include "tandem/aggregator/run_recorder.h"

#include <utility>

#include "tandem/core/storage/safetensors.h"
#include "tandem/core/training/compute_device.h"

namespace tandem::aggregator {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Estimated from finished rounds where there are any, from this round's pace where not.
std::optional<double> seconds_left(const StepReport& report, double round_seconds,
                                   double per_finished_round) {
  if (report.steps_done == 0 || report.steps == 0) return std::nullopt;
  const double fraction = static_cast<double>(report.steps_done) / report.steps;
  const double whole_round = per_finished_round > 0 ? per_finished_round : round_seconds / fraction;
  return whole_round * (1.0 - fraction) + whole_round * (report.rounds - report.round);
}

}  // namespace

RunRecorder::RunRecorder(RunDirectory directory, const std::string& resolved_config, bool quiet)
    : directory_(std::move(directory)),
      resolved_config_(resolved_config),
      progress_(quiet),
      round_started_(std::chrono::steady_clock::now()) {}

Result<void> RunRecorder::on_plan(const TrainingPlan& plan, int num_blocks) {
  plan_ = plan;
  // Bit equality holds for one thread count; what the run used is recorded with it.
  std::string config = resolved_config_;
  config += "\n# decided by the run\n";
  config += "# input-shape = " + shape_to_string(plan.input_shape) + "\n";
  config += "# num-classes = " + std::to_string(plan.num_classes) + "\n";
  config += "# blocks = " + std::to_string(num_blocks) + "\n";
  config += "# computed with " + describe_compute() + "\n";
  return directory_.write_config(config);
}

Result<void> RunRecorder::on_event(const EventRecord& event) {
  progress_.event(event);
  return directory_.append(event);
}

void RunRecorder::on_step(const StepReport& report) {
  if (report.round != round_shown_) {
    round_shown_ = report.round;
    round_started_ = std::chrono::steady_clock::now();
    examples_at_start_ = report.examples;
  }
  const double seconds = seconds_since(round_started_);
  const double per_round = finished_rounds_ > 0 ? finished_round_seconds_ / finished_rounds_ : 0;
  progress_.update({.label = "round " + std::to_string(report.round) + "/" + std::to_string(report.rounds),
                    .done = report.steps_done,
                    .total = report.steps,
                    .loss = report.loss,
                    .accuracy = report.accuracy,
                    .examples_per_second =
                        seconds > 0 ? static_cast<double>(report.examples - examples_at_start_) / seconds : 0,
                    .bytes_up = report.bytes_up,
                    .bytes_down = report.bytes_down,
                    .seconds_left = seconds_left(report, seconds, per_round)});
}

Result<void> RunRecorder::on_round(const RoundReport& report) {
  progress_.round(report.record, plan_.rounds);
  finished_round_seconds_ += report.record.seconds;
  ++finished_rounds_;
  for (const ClientRecord& client : report.clients) {
    if (auto appended = directory_.append(client); !appended) return appended;
  }
  return directory_.append(report.record);
}

Result<void> RunRecorder::save_model(const AggregatorSession& session) {
  NamedTensors front;
  NamedTensors tail;
  NamedTensors head;
  const int tail_end = session.definition().num_blocks() - plan_.head_blocks;
  for (const NamedTensor& entry : session.weights()) {
    const int block = std::stoi(entry.name.substr(0, entry.name.find('.')));
    (block < plan_.cut ? front : block < tail_end ? tail : head).push_back(entry);
  }
  const std::map<std::string, std::string> metadata = {
      {"format", "pt"},
      {"model", plan_.model},
      {"cut", std::to_string(plan_.cut)},
      {"input_shape", shape_to_string(plan_.input_shape)},
      {"num_classes", std::to_string(plan_.num_classes)},
  };
  const std::pair<const char*, NamedTensors> files[] = {{"model.safetensors", session.weights()},
                                                        {"front.safetensors", front},
                                                        {"tail.safetensors", tail},
                                                        {"head.safetensors", head}};
  for (const auto& [name, tensors] : files) {
    if (tensors.empty()) continue;  // federated has no tail, only U-shaped models have a head
    if (auto saved = save_safetensors(directory_.path() / name, {tensors, metadata}); !saved) return saved;
  }
  return {};
}

Result<void> RunRecorder::finish(const AggregatorSession& session) {
  RunSummary summary = session.summary();
  summary.peak_rss_bytes = peak_rss_bytes();
  if (summary.rounds > 0) {
    if (auto saved = save_model(session); !saved) return saved;
  }
  if (auto written = directory_.write_summary(summary); !written) return written;
  if (auto written = directory_.write_report(); !written) return written;
  progress_.finish(summary, (directory_.path() / "report.html").string());
  return {};
}

}  // namespace tandem::aggregator
