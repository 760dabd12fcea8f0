#include "tandem/core/profiling/timing.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace tandem {
namespace {

double quantile(const std::vector<double>& sorted, double share) {
  const double place = share * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(place);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (place - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

double median_of(std::vector<double> samples) {
  std::sort(samples.begin(), samples.end());
  return quantile(samples, 0.5);
}

}  // namespace

Timing summarize(std::vector<double> samples) {
  if (samples.empty()) throw std::invalid_argument("summarize needs a sample");
  std::sort(samples.begin(), samples.end());
  Timing timing;
  timing.samples = static_cast<int>(samples.size());
  timing.median_ms = quantile(samples, 0.5);
  timing.iqr_ms = quantile(samples, 0.75) - quantile(samples, 0.25);
  timing.p95_ms = quantile(samples, 0.95);
  // The number of samples below the median is binomial: the interval reaches 1.96 standard deviations to
  // both sides of it, in ranks.
  const double count = static_cast<double>(samples.size());
  const double reach = 1.96 * std::sqrt(count) / 2;
  const auto low = static_cast<size_t>(std::max(0.0, std::floor(count / 2 - reach)));
  const auto high = static_cast<size_t>(std::min(count - 1, std::ceil(count / 2 + reach)));
  const double width = samples[high] - samples[low];
  timing.half_width = timing.median_ms > 0 ? width / 2 / timing.median_ms : 0;
  return timing;
}

double drift_between_halves(const std::vector<double>& samples) {
  if (samples.size() < 4) return 0;
  const auto middle = samples.begin() + static_cast<std::ptrdiff_t>(samples.size() / 2);
  const double first = median_of({samples.begin(), middle});
  const double second = median_of({middle, samples.end()});
  const double all = median_of(samples);
  return all > 0 ? std::abs(second - first) / all : 0;
}

}  // namespace tandem
