#include "tandem/core/run/svg_chart_detail.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "tandem/core/run/progress_format_detail.h"

namespace tandem::detail {
namespace {

constexpr double kWidth = 440;
constexpr double kHeight = 250;
constexpr double kLeft = 66;
constexpr double kRight = 14;
constexpr double kTop = 12;
constexpr double kBottom = 40;
constexpr double kPlotWidth = kWidth - kLeft - kRight;
constexpr double kPlotHeight = kHeight - kTop - kBottom;
constexpr int kTickCount = 5;
constexpr size_t kMostVisibleDots = 60;
constexpr size_t kMostRoundLabels = 10;

std::string number(double value) {
  return format_fixed(value, 2);
}

std::string series_class(size_t index) {
  return std::string("s").append(std::to_string(index));
}

/// Beyond this the differences that an axis needs would overflow.
constexpr double kLargest = 1e300;

bool exists(const std::optional<double>& value) {
  return value && std::abs(*value) <= kLargest;  // NaN is not
}

/// Maps values to the plot.
struct Axes {
  std::vector<double> ticks;
  double low;
  double high;
  size_t count;  ///< rounds

  double slot() const { return kPlotWidth / static_cast<double>(count); }
  /// Centre of a round's slot; a single round is in the middle.
  double x(size_t index) const { return kLeft + (static_cast<double>(index) + 0.5) * slot(); }
  double y(double value) const { return kTop + kPlotHeight * (high - value) / (high - low); }
};

std::optional<std::pair<double, double>> value_range(const Chart& chart) {
  std::optional<std::pair<double, double>> range;
  for (const ChartSeries& series : chart.series) {
    for (const auto& value : series.values) {
      if (!exists(value)) continue;
      if (!range) range = {*value, *value};
      range->first = std::min(range->first, *value);
      range->second = std::max(range->second, *value);
    }
  }
  return range;
}

Axes make_axes(const Chart& chart, double low, double high) {
  Axes axes{nice_ticks(low, high, kTickCount), 0, 0, chart.rounds.size()};
  axes.low = axes.ticks.front();
  axes.high = axes.ticks.back();
  if (chart.low_limit) axes.low = std::max(axes.low, std::min(*chart.low_limit, low));
  if (chart.high_limit) axes.high = std::min(axes.high, std::max(*chart.high_limit, high));
  if (axes.high <= axes.low) axes.high = axes.low + 1;
  std::erase_if(axes.ticks, [&](double tick) { return tick < axes.low || tick > axes.high; });
  return axes;
}

std::string line_element(double x1, double y1, double x2, double y2, const char* css_class) {
  return std::string("<line class=\"") + css_class + "\" x1=\"" + number(x1) + "\" y1=\"" + number(y1) +
         "\" x2=\"" + number(x2) + "\" y2=\"" + number(y2) + "\"/>";
}

std::string text_element(double x, double y, const char* anchor, const std::string& text) {
  return "<text x=\"" + number(x) + "\" y=\"" + number(y) + "\" text-anchor=\"" + anchor + "\">" +
         escape_html(text) + "</text>";
}

std::string value_axis(const Chart& chart, const Axes& axes) {
  const double step = axes.ticks.size() > 1 ? axes.ticks[1] - axes.ticks[0] : 1;
  std::string out;
  for (const double tick : axes.ticks) {
    const double y = axes.y(tick);
    out += line_element(kLeft, y, kWidth - kRight, y, "grid");
    out += text_element(kLeft - 8, y + 4, "end", chart.format_tick(tick, step));
  }
  return out;
}

/// Labels every round, or every 2nd, 5th, 10th ... where there are many.
size_t label_stride(size_t count) {
  size_t stride = 1;
  for (size_t power = 1; count / stride > kMostRoundLabels; power *= 10) {
    for (const size_t factor : {1, 2, 5}) {
      stride = factor * power;
      if (count / stride <= kMostRoundLabels) break;
    }
  }
  return stride;
}

std::string round_axis(const Chart& chart, const Axes& axes) {
  const double base = kTop + kPlotHeight;
  const size_t stride = label_stride(axes.count);
  std::string out = line_element(kLeft, base, kWidth - kRight, base, "axis");
  for (size_t i = 0; i < axes.count; ++i) {
    if (stride > 1 && chart.rounds[i] % stride != 0) continue;
    out += text_element(axes.x(i), base + 17, "middle", std::to_string(chart.rounds[i]));
  }
  return out + text_element(kLeft + kPlotWidth / 2, kHeight - 6, "middle", "round");
}

std::string tooltip(const Chart& chart, const ChartSeries& series, size_t index) {
  return "<title>" +
         escape_html("round " + std::to_string(chart.rounds[index]) + ", " + series.name + ": " +
                     chart.format_value(*series.values[index])) +
         "</title>";
}

/// One path: a move after each gap, so that missing values are not bridged.
std::string line_path(const ChartSeries& series, const Axes& axes, const std::string& css_class) {
  std::string path;
  bool drawing = false;
  for (size_t i = 0; i < axes.count; ++i) {
    const bool there = exists(series.values[i]);
    if (there) {
      path += drawing ? 'L' : 'M';
      path += number(axes.x(i)) + " " + number(axes.y(*series.values[i]));
    }
    drawing = there;
  }
  return "<path class=\"line " + css_class + "\" d=\"" + path + "\"/>";
}

std::string dots(const Chart& chart, const ChartSeries& series, const Axes& axes,
                 const std::string& css_class) {
  const std::string visibility = axes.count > kMostVisibleDots ? " hidden" : "";
  std::string out;
  for (size_t i = 0; i < axes.count; ++i) {
    if (!exists(series.values[i])) continue;
    out += "<circle class=\"dot " + css_class + visibility + "\" cx=\"" + number(axes.x(i)) + "\" cy=\"" +
           number(axes.y(*series.values[i])) + "\" r=\"3.5\">" + tooltip(chart, series, i) + "</circle>";
  }
  return out;
}

std::string bars(const Chart& chart, size_t which, const Axes& axes) {
  const ChartSeries& series = chart.series[which];
  const double group = std::min(axes.slot() * 0.7, 60.0);
  const double width = group / static_cast<double>(chart.series.size());
  std::string out;
  for (size_t i = 0; i < axes.count; ++i) {
    if (!exists(series.values[i])) continue;
    const double top = axes.y(*series.values[i]);
    const double left = axes.x(i) - group / 2 + width * static_cast<double>(which);
    out += "<rect class=\"bar " + series_class(which) + "\" x=\"" + number(left) + "\" y=\"" + number(top) +
           "\" width=\"" + number(width > 4 ? width - 1 : width) + "\" height=\"" + number(axes.y(0) - top) +
           "\">" + tooltip(chart, series, i) + "</rect>";
  }
  return out;
}

std::string svg(const Chart& chart, const Axes& axes, const std::string& content) {
  return "<svg viewBox=\"0 0 " + format_fixed(kWidth, 0) + " " + format_fixed(kHeight, 0) +
         "\" role=\"img\" aria-label=\"" + escape_html(chart.title + " by round") + "\">" +
         value_axis(chart, axes) + round_axis(chart, axes) + content + "</svg>";
}

}  // namespace

std::vector<double> nice_ticks(double low, double high, int count) {
  // A range that vanishes beside its values counts as empty: a step would change none of them.
  const double size = std::max(std::abs(low), std::abs(high));
  constexpr double kSmallest = 1e-290;
  if (high - low <= std::max(size * 1e-12, kSmallest)) {
    const double margin = size <= kSmallest ? 1 : size * 0.1;
    low -= margin;
    high += margin;
  }
  const double rough = (high - low) / std::max(count - 1, 1);
  const double power = std::pow(10, std::floor(std::log10(rough)));
  double step = 10 * power;
  for (const double factor : {5.0, 2.5, 2.0, 1.0}) {
    if (factor * power >= rough * (1 - 1e-9)) step = factor * power;
  }
  std::vector<double> ticks;
  const double first = std::floor(low / step + 1e-9);
  const double last = std::ceil(high / step - 1e-9);
  for (double i = first; i <= last; ++i) ticks.push_back(i * step);
  return ticks;
}

std::string render_line_chart(const Chart& chart) {
  const auto range = value_range(chart);
  if (!range) return "";
  const Axes axes = make_axes(chart, range->first, range->second);
  std::string content;
  for (size_t i = 0; i < chart.series.size(); ++i) {
    const std::string css_class = series_class(i);
    content += line_path(chart.series[i], axes, css_class) + dots(chart, chart.series[i], axes, css_class);
  }
  return svg(chart, axes, content);
}

std::string render_bar_chart(const Chart& chart) {
  const auto range = value_range(chart);
  if (!range) return "";
  const Axes axes = make_axes(chart, 0, range->second > 0 ? range->second : 1);
  std::string content;
  for (size_t i = 0; i < chart.series.size(); ++i) content += bars(chart, i, axes);
  return svg(chart, axes, content);
}

std::string escape_html(const std::string& text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '&') {
      out += "&amp;";
    } else if (c == '<') {
      out += "&lt;";
    } else if (c == '>') {
      out += "&gt;";
    } else if (c == '"') {
      out += "&quot;";
    } else if (c == '\'') {
      out += "&#39;";
    } else if ((byte < 0x20 && c != '\n' && c != '\t') || byte == 0x7F) {
      out += "\uFFFD";
    } else {
      out += c;
    }
  }
  return out;
}

}  // namespace tandem::detail
