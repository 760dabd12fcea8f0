#include "tandem/core/run/metrics.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string_view>

namespace tandem {
namespace {

bool is_name(const std::string& text) {
  constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_";
  constexpr std::string_view kDigits = "0123456789";
  return !text.empty() && kDigits.find(text.front()) == std::string_view::npos &&
         std::all_of(text.begin(), text.end(), [&](char c) {
           return kLetters.find(c) != std::string_view::npos || kDigits.find(c) != std::string_view::npos;
         });
}

/// Backslash and line feed, and in a label's value the quotation mark, are written with a backslash.
std::string escaped(const std::string& text, bool quotes) {
  std::string out;
  for (const char c : text) {
    if (c == '\\' || (quotes && c == '"')) out += '\\';
    if (c == '\n') {
      out += "\\n";
    } else {
      out += c;
    }
  }
  return out;
}

std::string text_of(const Metrics::Labels& labels) {
  std::string text;
  for (const auto& [name, value] : labels) {
    if (!is_name(name)) throw std::logic_error("\"" + name + "\" is not a name for a metric's label");
    text += (text.empty() ? "{" : ",") + name + "=\"" + escaped(value, true) + "\"";
  }
  return text.empty() ? text : text + "}";
}

Metrics::Labels other(Metrics::Labels labels) {
  for (auto& [name, value] : labels) value = "(other)";
  return labels;
}

/// The shortest text that reads back as the same number, whatever the locale.
std::string text_of(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  std::array<char, 32> buffer{};
  return {buffer.data(), std::to_chars(buffer.data(), buffer.data() + buffer.size(), value).ptr};
}

std::string content_of(const char* path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::optional<double> resident_bytes() {
  std::istringstream statm(content_of("/proc/self/statm"));
  double total = 0;
  double resident = 0;
  if (!(statm >> total >> resident)) return std::nullopt;
  return resident * static_cast<double>(sysconf(_SC_PAGESIZE));
}

double cpu_seconds() {
  timespec used{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  return static_cast<double>(used.tv_sec) + static_cast<double>(used.tv_nsec) * 1e-9;
}

/// Seconds since the epoch: field 22 of stat counts ticks since boot, after a name that may hold spaces.
std::optional<double> start_seconds() {
  const std::string stat = content_of("/proc/self/stat");
  const size_t name_end = stat.rfind(')');
  const std::string system = content_of("/proc/stat");
  const size_t boot = system.find("btime ");
  if (name_end == std::string::npos || boot == std::string::npos) return std::nullopt;
  std::istringstream fields(stat.substr(name_end + 1));
  std::string skipped;
  for (int field = 3; field < 22; ++field) fields >> skipped;
  double ticks = 0;
  if (!(fields >> ticks)) return std::nullopt;
  return std::strtod(system.c_str() + boot + 6, nullptr) + ticks / static_cast<double>(sysconf(_SC_CLK_TCK));
}

std::optional<double> open_descriptors() {
  std::error_code error;
  const std::filesystem::directory_iterator entries("/proc/self/fd", error);
  if (error) return std::nullopt;
  return static_cast<double>(std::distance(begin(entries), end(entries)) - 1);  // less the one that looks
}

}  // namespace

void Metrics::declare(const std::string& name, Kind kind, const std::string& help) {
  if (!is_name(name)) throw std::logic_error("\"" + name + "\" is not a name for a metric");
  const std::lock_guard lock(mutex_);
  if (!families_.try_emplace(name, Family{.kind = kind, .help = help, .series = {}}).second) {
    throw std::logic_error("the metric " + name + " is declared twice");
  }
}

double& Metrics::figure(const std::string& name, const Labels& labels) {
  const auto family = families_.find(name);
  if (family == families_.end()) throw std::logic_error("the metric " + name + " is not declared");
  auto& series = family->second.series;
  const std::string key = text_of(labels);
  const auto found = series.find(key);
  if (found != series.end()) return found->second;
  return series[series.size() < kMaxSeries ? key : text_of(other(labels))];
}

void Metrics::set(const std::string& name, double value, const Labels& labels) {
  const std::lock_guard lock(mutex_);
  figure(name, labels) = value;
}

void Metrics::add(const std::string& name, double increment, const Labels& labels) {
  const std::lock_guard lock(mutex_);
  figure(name, labels) += increment;
}

double Metrics::value(const std::string& name, const Labels& labels) const {
  const std::lock_guard lock(mutex_);
  const auto family = families_.find(name);
  if (family == families_.end()) return 0;
  const auto found = family->second.series.find(text_of(labels));
  return found == family->second.series.end() ? 0 : found->second;
}

std::string Metrics::prometheus_text() const {
  const std::lock_guard lock(mutex_);
  std::string text;
  for (const auto& [name, family] : families_) {
    if (family.series.empty()) continue;
    text += "# HELP " + name + " " + escaped(family.help, false) + "\n";
    text += "# TYPE " + name + (family.kind == Kind::kCounter ? " counter\n" : " gauge\n");
    for (const auto& [labels, value] : family.series) text += name + labels + " " + text_of(value) + "\n";
  }
  return text;
}

void declare_process_metrics(Metrics& metrics) {
  metrics.declare("process_resident_memory_bytes", Metrics::Kind::kGauge, "Resident memory size in bytes.");
  metrics.declare("process_cpu_seconds_total", Metrics::Kind::kCounter,
                  "User and system CPU time spent in seconds.");
  metrics.declare("process_start_time_seconds", Metrics::Kind::kGauge,
                  "Start time of the process since the epoch in seconds.");
  metrics.declare("process_open_fds", Metrics::Kind::kGauge, "Number of open file descriptors.");
}

void update_process_metrics(Metrics& metrics) {
  metrics.set("process_cpu_seconds_total", cpu_seconds());
  if (const auto bytes = resident_bytes()) metrics.set("process_resident_memory_bytes", *bytes);
  if (const auto start = start_seconds()) metrics.set("process_start_time_seconds", *start);
  if (const auto count = open_descriptors()) metrics.set("process_open_fds", *count);
}

}  // namespace tandem
