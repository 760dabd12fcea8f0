#include "tandem/aggregator/records/run_recorder.h"

#include <utility>

#include "tandem/core/run/patient_write.h"
#include "tandem/core/storage/safetensors.h"
#include "tandem/core/training/compute_device.h"

namespace tandem::aggregator {
namespace {

constexpr std::chrono::minutes kBetweenComplaints{1};

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
  if (auto written = watch(directory_.write_config(config)); !written) return written;
  return plan_file_.empty() ? Result<void>() : watch(directory_.write_plan(plan_file_));
}

Result<void> RunRecorder::on_event(const EventRecord& event) {
  if (event.event == kNotKept) {
    progress_.warn(event.event + ": " + event.detail);
  } else {
    progress_.event(event);
  }
  return watch(directory_.append(event));
}

/// What the disk did not take waits; the training does not. Other errors pass.
Result<void> RunRecorder::watch(Result<void> written) {
  if (written) {
    if (std::exchange(lines_wait_, false)) progress_.note("the disk takes the lines of metrics.jsonl again");
    return written;
  }
  if (written.error().code != ErrorCode::kIo) return written;
  const auto now = std::chrono::steady_clock::now();
  if (!lines_wait_ || now >= next_complaint_) {
    next_complaint_ = now + kBetweenComplaints;
    progress_.warn("the run goes on, its lines wait in memory: " + written.error().message);
  }
  lines_wait_ = true;
  return {};
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
    if (auto appended = watch(directory_.append(client)); !appended) return appended;
  }
  return watch(directory_.append(report.record));
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
  const bool one_cut = session.summary().cuts.empty();  // else no file is everybody's front
  for (const auto& [name, tensors] : files) {
    if (!one_cut && name != std::string("model.safetensors")) continue;
    if (tensors.empty()) continue;  // federated has no tail, only U-shaped models have a head
    if (auto saved = save_safetensors(directory_.path() / name, {tensors, metadata}); !saved) return saved;
  }
  return {};
}

Result<void> RunRecorder::save_results(const AggregatorSession& session, const RunSummary& summary) {
  if (auto written = directory_.catch_up(); !written) return written;
  if (summary.rounds > 0) {
    if (auto saved = save_model(session); !saved) return saved;
  }
  return directory_.write_summary(summary);
}

Result<void> RunRecorder::finish(const AggregatorSession& session, const std::function<bool()>& should_stop) {
  RunSummary summary = session.summary();
  summary.peak_rss_bytes = peak_rss_bytes();
  if (!directory_.recorded()) return progress_.finish(summary, ""), Result<void>();
  auto saved = write_patiently([&] { return save_results(session, summary); }, should_stop,
                               [&](const std::string& line) { progress_.warn(line); });
  if (!saved) {
    return Error{saved.error().code,
                 saved.error().message +
                     "; started again with --resume, the run goes on from the checkpoints in " +
                     directory_.checkpoints().string()};
  }
  // The page is made of the other files, and can be made again.
  std::string report = (directory_.path() / "report.html").string();
  if (auto written = directory_.write_report(); !written) {
    progress_.warn("no report: " + written.error().message + "; \"tandem report " +
                   directory_.path().string() + "\" writes it later");
    report.clear();
  }
  progress_.finish(summary, report);
  return {};
}

}  // namespace tandem::aggregator
