#pragma once

#include <vector>

namespace tandem {

/// What repeated measurements of one thing say. Times in milliseconds.
struct Timing {
  double median_ms = 0;
  double iqr_ms = 0;  ///< third quartile less first quartile
  double p95_ms = 0;
  double half_width = 0;  ///< of the median's 95 % confidence interval, as a share of the median
  int samples = 0;
};

/// Summarises samples in milliseconds. The confidence interval is that of order statistics (David and
/// Nagaraja, Order Statistics, 2003, section 7.1), which assumes no distribution. Quantiles interpolate
/// between neighbours. Throws std::invalid_argument where there are no samples.
Timing summarize(std::vector<double> samples);

/// Returns by how much the medians of the first and the second half of the samples differ, as a share of the
/// median of all; 0 with fewer than 4 samples.
double drift_between_halves(const std::vector<double>& samples);

}  // namespace tandem
