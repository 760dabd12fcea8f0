#include <cmath>
#include <limits>

#include "core/run/temporary_folder.h"
#include "support/test.h"
#include "tandem/core/run/svg_chart_detail.h"

using namespace tandem::detail;

namespace {

Chart some_chart(std::vector<std::optional<double>> values) {
  Chart chart;
  chart.title = "Loss";
  for (size_t i = 0; i < values.size(); ++i) chart.rounds.push_back(static_cast<uint32_t>(i + 1));
  chart.series = {{"training", std::move(values)}};
  chart.format_value = [](double value) { return std::to_string(static_cast<int>(value)) + "v"; };
  chart.format_tick = [](double value, double) { return std::to_string(static_cast<int>(value)) + "t"; };
  return chart;
}

}  // namespace

TEST_SUITE("core/run/svg_chart") {
  TEST_CASE("nice_ticks covers the range in round steps") {
    CHECK(nice_ticks(0, 100, 5) == std::vector<double>{0, 25, 50, 75, 100});
    CHECK(nice_ticks(0, 4, 5) == std::vector<double>{0, 1, 2, 3, 4});
    CHECK(nice_ticks(3, 17, 5) == std::vector<double>{0, 5, 10, 15, 20});
    CHECK(nice_ticks(-2, 6, 5) == std::vector<double>{-2, 0, 2, 4, 6});
  }

  TEST_CASE("nice_ticks survives an empty range and extreme magnitudes") {
    for (const double value : {0.0, 5.0, -3.0, 1e-12, 1e12}) {
      CAPTURE(value);
      const auto ticks = nice_ticks(value, value, 5);
      REQUIRE(ticks.size() >= 2);
      REQUIRE(ticks.size() < 12);
      CHECK(ticks.front() < value);
      CHECK(ticks.back() > value);
    }
  }

  TEST_CASE("nice_ticks ends where a step would change nothing, and where there is no step") {
    const struct {
      double low, high;
    } ranges[] = {{1e17, std::nextafter(1e17, 2e17)},
                  {-1e300, std::nextafter(-1e300, 0)},
                  {0, 5e-324},
                  {-5e-324, 5e-324},
                  {-1e300, 1e300},
                  {1e-310, 2e-310}};
    for (const auto& [low, high] : ranges) {
      CAPTURE(low);
      const auto ticks = nice_ticks(low, high, 5);
      REQUIRE(ticks.size() >= 2);
      CHECK(ticks.size() < 12);
      CHECK(ticks.front() <= low);
      CHECK(ticks.back() >= high);
    }
  }

  TEST_CASE("a value too large to draw is a gap") {
    const std::string svg = render_line_chart(some_chart({10, 1.7e308, -1.7e308, 30}));
    CHECK(count_of(svg, "<circle") == 2);
  }

  TEST_CASE("a line chart has a dot with a tooltip for each value") {
    const std::string svg = render_line_chart(some_chart({10, 20, 30}));
    CHECK(count_of(svg, "<circle") == 3);
    CHECK(svg.find("<title>round 2, training: 20v</title>") != std::string::npos);
    CHECK(svg.find(">10t</text>") != std::string::npos);
    CHECK(svg.find(">30t</text>") != std::string::npos);
    // Ticks 10, 15 .. 30 on a plot of 198 units from 12 down; slots of 120 from 66.
    CHECK(svg.find("d=\"M126.00 210.00L246.00 111.00L366.00 12.00\"") != std::string::npos);
  }

  TEST_CASE("a missing value is a gap, not a bridge") {
    const double nan = std::numeric_limits<double>::quiet_NaN();
    const std::string svg = render_line_chart(some_chart({10, 20, std::nullopt, nan, 30, 40}));
    CHECK(count_of(svg, "<circle") == 4);
    const size_t path = svg.find(" d=\"");
    REQUIRE(path != std::string::npos);
    const std::string drawn = svg.substr(path, svg.find("\"/>", path) - path);
    CHECK(count_of(drawn, "M") == 2);
    CHECK(count_of(drawn, "L") == 2);
  }

  TEST_CASE("one value is drawn, none gives nothing") {
    CHECK(count_of(render_line_chart(some_chart({7})), "<circle") == 1);
    CHECK(render_line_chart(some_chart({})) == "");
    CHECK(render_line_chart(some_chart({std::nullopt, std::nullopt})) == "");
    CHECK(render_bar_chart(some_chart({std::nullopt})) == "");
  }

  TEST_CASE("bars start at zero and have the height of their value") {
    const std::string svg = render_bar_chart(some_chart({50, 100}));
    CHECK(count_of(svg, "<rect") == 2);
    CHECK(svg.find("y=\"111.00\" width=\"59.00\" height=\"99.00\"><title>round 1") != std::string::npos);
    CHECK(svg.find("y=\"12.00\" width=\"59.00\" height=\"198.00\"><title>round 2") != std::string::npos);
  }

  TEST_CASE("an axis stays inside its limits") {
    Chart chart = some_chart({0, 1});
    chart.low_limit = 0;
    chart.high_limit = 1;
    chart.series[0].values = {0.02, 0.99};
    const std::string svg = render_line_chart(chart);
    CHECK(svg.find("NaN") == std::string::npos);
    CHECK(svg.find("-0") == std::string::npos);
    // 0.99 is one hundredth below the top of the plot: 12 + 1.98.
    CHECK(svg.find(" 13.98\"") != std::string::npos);
  }

  TEST_CASE("many rounds are labelled sparsely, their dots are hidden until touched") {
    std::vector<std::optional<double>> values(200);
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<double>(i);
    const std::string svg = render_line_chart(some_chart(values));
    CHECK(count_of(svg, "text-anchor=\"middle\"") == 11);  // 20, 40 .. 200 and the name of the axis
    CHECK(svg.find(">20</text>") != std::string::npos);
    CHECK(count_of(svg, "dot s0 hidden") == 200);
  }

  TEST_CASE("escape_html leaves nothing that HTML could read as markup") {
    CHECK(escape_html("<a href=\"x\" t='y'>&amp;</a>") ==
          "&lt;a href=&quot;x&quot; t=&#39;y&#39;&gt;&amp;amp;&lt;/a&gt;");
    CHECK(escape_html(std::string("a\0\x1b\tb\n\u00e9", 8)) == "a\uFFFD\uFFFD\tb\n\u00e9");
  }
}
