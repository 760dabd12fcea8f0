#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "tandem/core/run/run_directory.h"

namespace tandem {

/// What a progress line shows now.
struct ProgressState {
  std::string label;  ///< "round 2/5"
  uint64_t done = 0;  ///< steps of this round
  uint64_t total = 0;
  double loss = 0;      ///< running mean of this round
  double accuracy = 0;  ///< running, 0..1
  double examples_per_second = 0;
  int64_t bytes_up = 0;
  int64_t bytes_down = 0;
  std::optional<double> seconds_left;  ///< of the whole run
};

/// Progress for a person: a bar that redraws itself on a terminal, plain lines (at most one every few
/// seconds, and every finished round) elsewhere. Writes to stderr. One thread; log lines that must appear
/// between go through `note`. Respects NO_COLOR and the terminal's width. Where log_format() is JSON, each
/// of these lines is an object instead, and there is no bar.
class Progress {
 public:
  /// Detects a terminal on stderr; `quiet` shows nothing but finish().
  explicit Progress(bool quiet = false);
  ~Progress();

  void update(const ProgressState& state);
  /// A permanent line, above the bar on a terminal.
  void note(const std::string& line);
  /// A line that somebody must act on, shown with `quiet` too.
  void warn(const std::string& text);
  /// "join cam-1: 600 examples", as a note.
  void event(const EventRecord& event);
  /// A finished round as a permanent line.
  void round(const RoundRecord& record, uint32_t total_rounds);
  /// The closing table to stdout, or one object; and where the report is.
  void finish(const RunSummary& summary, const std::string& report_path);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// "1.5 GB", "312 kB"; decimal units.
std::string format_bytes(int64_t bytes);
/// "1:02:03", "2:05", "0:07"
std::string format_duration(double seconds);

}  // namespace tandem
