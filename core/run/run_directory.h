#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tandem/core/base/result.h"

namespace tandem {

/// One line `{"event":"round",...}` of metrics.jsonl. Figures that do not exist are null.
struct RoundRecord {
  uint32_t round = 0;
  double loss = 0;      ///< mean training loss over the round's examples
  double accuracy = 0;  ///< training accuracy, 0..1
  std::optional<double> eval_loss;
  std::optional<double> eval_accuracy;
  int clients = 0;       ///< whose fronts were merged
  int64_t examples = 0;  ///< whose gradients were applied
  uint32_t steps = 0;
  double seconds = 0;  ///< training, merging and evaluation of this round
  int64_t bytes_up = 0;
  int64_t bytes_down = 0;
  /// What the formula says that training and merging need, without framing; see docs/performance.md, "Bytes".
  int64_t bytes_up_formula = 0;
  int64_t bytes_down_formula = 0;
};

/// One client's part of a round: a line `{"event":"client",...}`.
struct ClientRecord {
  uint32_t round = 0;
  std::string client;
  double loss = 0;
  double accuracy = 0;
  int64_t examples = 0;
  uint32_t steps = 0;
  uint32_t missed_steps = 0;
  int64_t bytes_up = 0;
  int64_t bytes_down = 0;
  int64_t bytes_up_formula = 0;
  int64_t bytes_down_formula = 0;
  /// Of the merged model on the examples this client holds back.
  std::optional<double> eval_loss;
  std::optional<double> eval_accuracy;
};

/// Joins, departures and what else happened: `{"event":NAME,"round":..,"client":..,"detail":..}`.
struct EventRecord {
  std::string event;
  uint32_t round = 0;
  std::string client;  ///< empty when it concerns no client
  std::string detail;
};

/// summary.json
struct RunSummary {
  std::string status;  ///< "completed", "interrupted" or "failed"
  std::string algorithm;
  std::string strategy;
  std::string model;
  int cut = 0;
  uint32_t rounds = 0;  ///< completed
  int clients = 0;      ///< that took part in any round
  std::optional<double> eval_accuracy;
  std::optional<double> eval_loss;
  double seconds = 0;
  double examples_per_second = 0;
  int64_t bytes_up = 0;
  int64_t bytes_down = 0;
  int64_t peak_rss_bytes = 0;
  /// By client, the rounds that it began and that went on without it, though it had not left: it was silent,
  /// or too slow. Those with none are left out.
  std::map<std::string, uint32_t> lost_rounds;
  /// Where clients have different cuts, each of them in ascending order; `cut` is then the highest.
  std::vector<int> cuts;

  /// Returns "cut 2", or "cuts 1, 2" where clients have different ones.
  std::string cut_text() const {
    if (cuts.empty()) return "cut " + std::to_string(cut);
    std::string text = "cuts";
    for (const int each : cuts) text += (each == cuts.front() ? " " : ", ") + std::to_string(each);
    return text;
  }
};

/// The files a run leaves behind, written by one thread (the trainer). metrics.jsonl grows line by line
/// and is flushed after each; everything else is written atomically.
///
/// A disk that takes nothing ends no run: lines of metrics.jsonl, config.toml and plan.json that could not be
/// written are kept, in order, and written with the next call that finds room; the error says why they wait.
/// Beyond 16 MiB of them the newest are only counted, and a line says how many. Where somebody moves or
/// removes metrics.jsonl meanwhile, a new one is begun.
class RunDirectory {
 public:
  /// The plan that the cuts of the run come from.
  static constexpr const char* kPlanName = "plan.json";

  /// Creates `path` and its parents. A run that records nothing leaves nothing behind.
  /// kInvalidArgument when a file is there that a run writes, whoever made it: nothing is ever overwritten.
  static Result<RunDirectory> create(std::filesystem::path path);
  /// The directory of a run that goes on after `completed_rounds` rounds: records of later ones, which come
  /// again, and a half-written last line are taken out of metrics.jsonl, which is begun where it is missing.
  static Result<RunDirectory> resume(std::filesystem::path path, uint32_t completed_rounds);
  /// Whether a run left results there, be it one finished round.
  static bool holds_results(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path checkpoints() const { return path_ / "checkpoints"; }

  Result<void> write_config(const std::string& toml);
  Result<void> write_plan(const std::string& json);
  Result<void> append(const RoundRecord& record);
  Result<void> append(const ClientRecord& record);
  Result<void> append(const EventRecord& record);
  /// Writes what waits, if anything does.
  Result<void> catch_up();
  /// Whether anything was appended.
  bool recorded() const;
  Result<void> write_summary(const RunSummary& summary);

  /// report.html from config.toml, metrics.jsonl and summary.json: one self-contained file.
  Result<void> write_report() const;

  RunDirectory(RunDirectory&&) noexcept;
  RunDirectory& operator=(RunDirectory&&) noexcept;
  ~RunDirectory();

 private:
  struct Impl;
  RunDirectory(std::filesystem::path path, std::unique_ptr<Impl> impl);
  static Result<RunDirectory> open(std::filesystem::path path, int flags, double seconds_before);
  std::filesystem::path path_;
  std::unique_ptr<Impl> impl_;
};

/// VmHWM of this process, bytes; 0 where /proc is not there.
int64_t peak_rss_bytes();

}  // namespace tandem
