#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "tandem/core/base/result.h"
#include "tandem/core/run/run_directory.h"

namespace tandem::detail {

/// A round as a report needs it: any figure may be missing.
struct ReportRound {
  uint32_t round = 0;
  std::optional<double> loss, accuracy, eval_loss, eval_accuracy, seconds, bytes_up, bytes_down;
  int64_t clients = 0;
  int64_t examples = 0;
};

/// One client over the whole run.
struct ReportClient {
  std::string name;
  int64_t rounds = 0;
  int64_t examples = 0;
  std::optional<double> last_loss, last_accuracy;
  int64_t missed_steps = 0;
  int64_t bytes_up = 0;
  int64_t bytes_down = 0;
};

struct ReportEvent {
  std::optional<double> time;
  std::string event;
  uint32_t round = 0;
  std::string client;
  std::string detail;
};

/// What a run directory says.
struct ReportData {
  std::string name;  ///< of the directory
  std::vector<ReportRound> rounds;
  std::vector<ReportClient> clients;  ///< by name
  std::vector<ReportEvent> events;
  std::optional<RunSummary> summary;
  std::optional<std::string> config;
  std::optional<double> planned_step_ms;  ///< of plan.json; nullopt where the run was not planned
  /// Median over the rounds of their time by the most steps of a client, the exchange of weights included.
  std::optional<double> measured_step_ms;
  std::vector<std::string> notes;  ///< what is missing or incomplete
};

/// kNotFound or kIo when metrics.jsonl cannot be read, kCorrupt with the line that is not an object. A
/// last line cut short (the process was killed) is a note. The other files are optional.
Result<ReportData> read_report_data(const std::filesystem::path& run_directory);

}  // namespace tandem::detail
