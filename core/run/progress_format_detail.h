#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "tandem/core/run/progress.h"

namespace tandem::detail {

/// `value` with this many decimals, whatever the locale; "-" when it is not finite.
std::string format_fixed(double value, int decimals);
/// To the nearest; 0 for NaN, and at most 9e18 either way.
int64_t to_whole(double value);
/// "60,000"
std::string format_count(int64_t value);
/// `text` without control characters, which could move a terminal's cursor or change its colours.
std::string printable(const std::string& text);

/// What the output can show.
struct ProgressStyle {
  bool terminal = false;  ///< a line can be redrawn
  bool colour = false;
  bool unicode = false;
  int width = 80;  ///< columns
};

/// The bar's line without a line end, at most `width` columns.
std::string format_bar_line(const ProgressState& state, const ProgressStyle& style);
/// The same for an output that cannot redraw: no bar.
std::string format_plain_line(const ProgressState& state);
std::string format_round_line(const RoundRecord& record, uint32_t total_rounds);
/// "cam-1 in 3 rounds, cam-2 in 1 round"; empty where none was lost.
std::string lost_devices_text(const RunSummary& summary);
/// Aligned names and figures, one a line; the report's path last unless it is empty.
std::string format_summary(const RunSummary& summary, const std::string& report_path);

/// Whether LC_ALL, LC_CTYPE or LANG (the first that is not empty) names a UTF-8 locale.
bool locale_is_utf8(const char* lc_all, const char* lc_ctype, const char* lang);

/// Decides what is written when: strings in, bytes for the output out. The time is the caller's.
class ProgressRenderer {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::milliseconds kRedrawInterval{100};
  static constexpr std::chrono::seconds kPlainInterval{10};

  ProgressRenderer(ProgressStyle style, Clock::time_point now) : style_(style), last_output_(now) {}

  void set_width(int columns) { style_.width = columns; }

  /// Empty when it is too early for another line.
  std::string update(const ProgressState& state, Clock::time_point now);
  std::string note(const std::string& line) const;
  std::string round(const RoundRecord& record, uint32_t total_rounds, Clock::time_point now);
  /// Takes the bar away.
  std::string clear();

 private:
  std::string erase() const { return shown_.empty() ? "" : "\r\x1b[K"; }

  ProgressStyle style_;
  Clock::time_point last_output_;
  std::string shown_;  ///< the bar on the terminal now
};

}  // namespace tandem::detail
