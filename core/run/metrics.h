#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace tandem {

/// Counters and gauges of a process, written by the threads that work and read by who asks: each call takes
/// one lock for well under a microsecond. Figures are doubles, exact for counts up to 2^53.
class Metrics {
 public:
  enum class Kind { kCounter, kGauge };
  using Labels = std::vector<std::pair<std::string, std::string>>;

  /// Label sets a family may have; those that come later are counted together, under "(other)".
  static constexpr size_t kMaxSeries = 4096;

  /// Makes a family known; it is shown from its first figure on. Names and label names are
  /// [a-zA-Z_][a-zA-Z0-9_]*; one that is not, or is declared twice, throws std::logic_error.
  void declare(const std::string& name, Kind kind, const std::string& help);

  /// The figure is now `value`. An undeclared name throws std::logic_error, here and in add().
  void set(const std::string& name, double value, const Labels& labels = {});
  void add(const std::string& name, double increment = 1, const Labels& labels = {});
  /// 0 where there is no figure yet.
  double value(const std::string& name, const Labels& labels = {}) const;

  /// Prometheus' text format 0.0.4: HELP, TYPE and the figures of every family, sorted by name.
  std::string prometheus_text() const;

 private:
  struct Family {
    Kind kind = Kind::kGauge;
    std::string help;
    std::map<std::string, double> series;  ///< by labels as they are written
  };

  double& figure(const std::string& name, const Labels& labels);

  mutable std::mutex mutex_;
  std::map<std::string, Family> families_;  // guarded by mutex_
};

/// Declares and sets the usual figures of this process: process_resident_memory_bytes,
/// process_cpu_seconds_total, process_start_time_seconds, process_open_fds. What /proc does not tell is left
/// out.
void update_process_metrics(Metrics& metrics);
void declare_process_metrics(Metrics& metrics);

}  // namespace tandem
