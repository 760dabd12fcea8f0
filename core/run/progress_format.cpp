#include "tandem/core/run/progress_format_detail.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <string_view>
#include <utility>
#include <vector>

namespace tandem {

std::string format_bytes(int64_t bytes) {
  static constexpr std::array<const char*, 6> kUnits = {"kB", "MB", "GB", "TB", "PB", "EB"};
  const double magnitude = std::abs(static_cast<double>(bytes));
  if (magnitude < 1000) return std::to_string(bytes) + " B";
  double value = magnitude / 1000;
  size_t unit = 0;
  // What would be rounded to 1000 belongs to the next unit.
  while (unit + 1 < kUnits.size() && value >= (unit == 0 ? 999.5 : 999.95)) {
    value /= 1000;
    ++unit;
  }
  const double number = bytes < 0 ? -value : value;
  return detail::format_fixed(number, unit == 0 ? 0 : 1) + " " + kUnits[unit];
}

std::string format_duration(double seconds) {
  constexpr double kLongest = 1e9;
  const auto whole = std::isfinite(seconds) ? static_cast<int64_t>(std::clamp(seconds, 0.0, kLongest)) : 0;
  const auto two_digits = [](int64_t value) { return (value < 10 ? ":0" : ":") + std::to_string(value); };
  const int64_t minutes = whole / 60;
  if (minutes < 60) return std::to_string(minutes) + two_digits(whole % 60);
  return std::to_string(minutes / 60) + two_digits(minutes % 60) + two_digits(whole % 60);
}

namespace detail {
namespace {

constexpr int kWidestBar = 24;
constexpr int kNarrowestBar = 8;

constexpr const char* kBold = "1";
constexpr const char* kCyan = "36";
constexpr const char* kFaint = "2";

/// Text of one colour; every character takes one column.
struct Span {
  std::string text;
  const char* colour = nullptr;
};

bool continues_character(char c) {
  return (static_cast<unsigned char>(c) & 0xC0) == 0x80;
}

int columns_of(const std::string& text) {
  return static_cast<int>(
      std::count_if(text.begin(), text.end(), [](char c) { return !continues_character(c); }));
}

std::string first_columns(const std::string& text, int columns) {
  size_t end = 0;
  for (int taken = 0; end < text.size(); ++end) {
    if (!continues_character(text[end]) && taken++ == columns) break;
  }
  return text.substr(0, end);
}

std::string painted(const std::vector<Span>& spans, const ProgressStyle& style) {
  std::string line;
  int left = style.width;
  for (const Span& span : spans) {
    const std::string text = first_columns(span.text, std::max(left, 0));
    left -= columns_of(text);
    if (text.empty()) continue;
    const bool paint = style.colour && span.colour;
    line += paint ? "\x1b[" + std::string(span.colour) + "m" + text + "\x1b[0m" : text;
  }
  return line;
}

double fraction_done(const ProgressState& state) {
  if (state.total == 0) return 0;
  return std::min(1.0, static_cast<double>(state.done) / static_cast<double>(state.total));
}

std::string percent_done(const ProgressState& state) {
  return std::to_string(static_cast<int>(fraction_done(state) * 100)) + "%";
}

std::string repeated(const char* text, int count) {
  std::string out;
  for (int i = 0; i < count; ++i) out += text;
  return out;
}

std::vector<Span> bar(const ProgressState& state, int width, bool unicode) {
  const double fraction = fraction_done(state);
  if (!unicode) {
    const int full = static_cast<int>(fraction * width);
    return {{repeated("#", full), kCyan}, {repeated(".", width - full), kFaint}};
  }
  const int halves = static_cast<int>(fraction * width * 2);
  const int full = halves / 2;
  const bool half = halves % 2 != 0;
  return {{repeated("━", full) + (half ? "╸" : ""), kCyan}, {repeated("─", width - full - half), kFaint}};
}

std::string figures(const ProgressState& state, bool unicode) {
  const std::string up = unicode ? "↑" : "up ";
  const std::string down = unicode ? "↓" : "down ";
  std::string text = "  " + percent_done(state);
  text += "  loss " + format_fixed(state.loss, 3);
  text += "  acc " + format_fixed(state.accuracy * 100, 1) + "%";
  text += "  " + format_count(to_whole(state.examples_per_second)) + " ex/s";
  text += "  " + up + format_bytes(state.bytes_up) + " " + down + format_bytes(state.bytes_down);
  if (state.seconds_left) text += "  " + format_duration(*state.seconds_left) + " left";
  return text;
}

std::string eval_text(const std::optional<double>& accuracy, const std::optional<double>& loss) {
  std::string text;
  if (accuracy) text = "accuracy " + format_fixed(*accuracy * 100, 2) + " %";
  if (loss) text += (text.empty() ? "loss " : ", loss ") + format_fixed(*loss, 4);
  return text.empty() ? "-" : text;
}

}  // namespace

std::string format_fixed(double value, int decimals) {
  if (!std::isfinite(value)) return "-";
  std::array<char, 400> buffer;
  char* const begin = buffer.data();
  const auto [end, error] =
      std::to_chars(begin, begin + buffer.size(), value, std::chars_format::fixed, decimals);
  return error == std::errc{} ? std::string(begin, end) : "-";
}

int64_t to_whole(double value) {
  constexpr double kLimit = 9e18;  // inside int64_t
  return std::isnan(value) ? 0 : std::llround(std::clamp(value, -kLimit, kLimit));
}

std::string format_count(int64_t value) {
  std::string digits = std::to_string(value);
  const size_t first = value < 0 ? 1 : 0;
  for (size_t i = digits.size(); i > first + 3; i -= 3) digits.insert(i - 3, 1, ',');
  return digits;
}

std::string printable(const std::string& text) {
  std::string clean;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const auto next = i + 1 < text.size() ? static_cast<unsigned char>(text[i + 1]) : 0;
    if (byte == 0xC2 && next >= 0x80 && next < 0xA0) {  // U+0080 to U+009F, the second control set
      clean += '?';
      ++i;
    } else {
      clean += byte < 0x20 || byte == 0x7F ? '?' : text[i];
    }
  }
  return clean;
}

std::string format_bar_line(const ProgressState& state, const ProgressStyle& style) {
  const std::string label = printable(state.label) + " ";
  const std::string tail = figures(state, style.unicode);
  const int room = style.width - columns_of(label) - columns_of(tail);
  std::vector<Span> spans = {{label, kBold}};
  for (Span& span : bar(state, std::clamp(room, kNarrowestBar, kWidestBar), style.unicode)) {
    spans.push_back(std::move(span));
  }
  spans.push_back({tail});
  return painted(spans, style);
}

std::string format_plain_line(const ProgressState& state) {
  return printable(state.label) + figures(state, false);
}

std::string format_round_line(const RoundRecord& record, uint32_t total_rounds) {
  std::string line = "round " + std::to_string(record.round) + "/" + std::to_string(total_rounds);
  line += "  loss " + format_fixed(record.loss, 4);
  line += "  accuracy " + format_fixed(record.accuracy * 100, 2) + " %";
  if (record.eval_accuracy) {
    line += "  eval " + format_fixed(*record.eval_accuracy * 100, 2) + " %";
  } else if (record.eval_loss) {
    line += "  eval loss " + format_fixed(*record.eval_loss, 4);
  }
  line += "  clients " + std::to_string(record.clients);
  line += "  examples " + format_count(record.examples);
  line += "  " + format_fixed(record.seconds, 1) + " s";
  return line + "  up " + format_bytes(record.bytes_up) + "  down " + format_bytes(record.bytes_down);
}

std::string lost_devices_text(const RunSummary& summary) {
  std::string text;
  for (const auto& [client, rounds] : summary.lost_rounds) {
    text += (text.empty() ? "" : ", ") + client + " in " + std::to_string(rounds) +
            (rounds == 1 ? " round" : " rounds");
  }
  return text;
}

std::string format_summary(const RunSummary& summary, const std::string& report_path) {
  std::vector<std::pair<std::string, std::string>> rows = {
      {"status", summary.status},
      {"model", summary.model + ", " + summary.cut_text()},
      {"algorithm", summary.algorithm + ", " + summary.strategy},
      {"rounds", std::to_string(summary.rounds)},
      {"clients", std::to_string(summary.clients)},
      {"evaluation", eval_text(summary.eval_accuracy, summary.eval_loss)},
      {"time", format_duration(summary.seconds) + ", " + format_count(to_whole(summary.examples_per_second)) +
                   " examples/s"},
      {"bytes", "up " + format_bytes(summary.bytes_up) + ", down " + format_bytes(summary.bytes_down)},
      {"peak memory", format_bytes(summary.peak_rss_bytes)},
  };
  if (!summary.lost_rounds.empty()) rows.insert(rows.begin() + 5, {"lost", lost_devices_text(summary)});
  constexpr size_t kNameColumns = 13;
  std::string text;
  for (const auto& [name, value] : rows) {
    text += name + std::string(kNameColumns - name.size(), ' ') + printable(value) + "\n";
  }
  return report_path.empty() ? text : text + "report: " + report_path + "\n";
}

bool locale_is_utf8(const char* lc_all, const char* lc_ctype, const char* lang) {
  for (const char* value : {lc_all, lc_ctype, lang}) {
    if (!value || !*value) continue;
    std::string name(value);
    std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
    return name.find("utf-8") != std::string::npos || name.find("utf8") != std::string::npos;
  }
  return false;
}

std::string ProgressRenderer::update(const ProgressState& state, Clock::time_point now) {
  if (!style_.terminal) {
    if (now - last_output_ < kPlainInterval) return "";
    last_output_ = now;
    return format_plain_line(state) + "\n";
  }
  if (!shown_.empty() && now - last_output_ < kRedrawInterval) return "";
  last_output_ = now;
  shown_ = format_bar_line(state, style_);
  return "\r" + shown_ + "\x1b[K";
}

std::string ProgressRenderer::note(const std::string& line) const {
  return erase() + printable(line) + "\n" + shown_;
}

std::string ProgressRenderer::round(const RoundRecord& record, uint32_t total_rounds, Clock::time_point now) {
  last_output_ = now;
  return clear() + format_round_line(record, total_rounds) + "\n";
}

std::string ProgressRenderer::clear() {
  const std::string text = erase();
  shown_.clear();
  return text;
}

}  // namespace detail
}  // namespace tandem
