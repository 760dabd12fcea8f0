#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace tandem::detail {

/// One line, or one bar of each group. A value that does not exist leaves a gap.
struct ChartSeries {
  std::string name;
  std::vector<std::optional<double>> values;  ///< as many as the chart has rounds
};

/// A figure by round. Colours come from the page: series i is drawn in the CSS class `s<i>`.
struct Chart {
  std::string title;
  std::vector<uint32_t> rounds;
  std::vector<ChartSeries> series;
  std::function<std::string(double)> format_value;              ///< in tooltips
  std::function<std::string(double, double step)> format_tick;  ///< on the axis
  /// The axis never goes beyond these, whatever the ticks.
  std::optional<double> low_limit;
  std::optional<double> high_limit;
};

/// An <svg> element without scripts; the exact values are in <title> tooltips. Empty when no series holds
/// a finite value.
std::string render_line_chart(const Chart& chart);
/// The same data as groups of bars that start at 0.
std::string render_bar_chart(const Chart& chart);

/// Round numbers (1, 2, 2.5 or 5 times a power of ten) that cover [low, high], about `count` of them.
std::vector<double> nice_ticks(double low, double high, int count);

/// `text` inside HTML or SVG, in an element or a quoted attribute.
std::string escape_html(const std::string& text);

}  // namespace tandem::detail
