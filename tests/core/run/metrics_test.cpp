#include "tandem/core/run/metrics.h"

#include <cmath>
#include <ctime>
#include <limits>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "support/test.h"

using tandem::Metrics;
using enum tandem::Metrics::Kind;

TEST_SUITE("core/run/metrics") {
  TEST_CASE("the text holds HELP, TYPE and figures, families and labels in order") {
    Metrics metrics;
    metrics.declare("tandem_steps_total", kCounter, "Steps applied.");
    metrics.declare("tandem_loss", kGauge, "Mean loss.");
    metrics.declare("tandem_events_total", kCounter, "Events by name.");
    metrics.add("tandem_steps_total", 3);
    metrics.add("tandem_steps_total");
    metrics.set("tandem_loss", 0.25);
    metrics.add("tandem_events_total", 1, {{"event", "leave"}});
    metrics.add("tandem_events_total", 2, {{"event", "join"}});
    CHECK(metrics.prometheus_text() ==
          "# HELP tandem_events_total Events by name.\n"
          "# TYPE tandem_events_total counter\n"
          "tandem_events_total{event=\"join\"} 2\n"
          "tandem_events_total{event=\"leave\"} 1\n"
          "# HELP tandem_loss Mean loss.\n"
          "# TYPE tandem_loss gauge\n"
          "tandem_loss 0.25\n"
          "# HELP tandem_steps_total Steps applied.\n"
          "# TYPE tandem_steps_total counter\n"
          "tandem_steps_total 4\n");
  }

  TEST_CASE("a family without a figure is not shown, and its value is 0") {
    Metrics metrics;
    metrics.declare("tandem_eval_accuracy", kGauge, "Accuracy.");
    CHECK(metrics.prometheus_text().empty());
    CHECK(metrics.value("tandem_eval_accuracy") == 0);
    CHECK(metrics.value("unknown") == 0);
  }

  TEST_CASE("labels and help are escaped: no name can add a line or a label") {
    Metrics metrics;
    metrics.declare("m", kGauge, "A \\ and\na line.");
    metrics.set("m", 1, {{"client", "a\"b\\c\nd"}, {"other", "x"}});
    CHECK(metrics.prometheus_text() ==
          "# HELP m A \\\\ and\\na line.\n"
          "# TYPE m gauge\n"
          "m{client=\"a\\\"b\\\\c\\nd\",other=\"x\"} 1\n");
  }

  TEST_CASE("figures read back as the same numbers") {
    const std::pair<double, const char*> cases[] = {
        {0, "m 0\n"},
        {-1.5, "m -1.5\n"},
        {0.1, "m 0.1\n"},
        {123456789012345, "m 123456789012345\n"},
        {std::nan(""), "m NaN\n"},
        {std::numeric_limits<double>::infinity(), "m +Inf\n"},
        {-std::numeric_limits<double>::infinity(), "m -Inf\n"},
    };
    for (const auto& [value, line] : cases) {
      CAPTURE(value);
      Metrics metrics;
      metrics.declare("m", kGauge, "h");
      metrics.set("m", value);
      CHECK(metrics.prometheus_text() == "# HELP m h\n# TYPE m gauge\n" + std::string(line));
    }
  }

  TEST_CASE("names that Prometheus would not read, unknown and double ones are the caller's mistake") {
    Metrics metrics;
    metrics.declare("m", kGauge, "h");
    CHECK_THROWS_WITH_AS(metrics.declare("m", kGauge, "h"), "the metric m is declared twice",
                         std::logic_error);
    CHECK_THROWS_WITH_AS(metrics.declare("1m", kGauge, "h"), "\"1m\" is not a name for a metric",
                         std::logic_error);
    CHECK_THROWS_WITH_AS(metrics.declare("", kGauge, "h"), "\"\" is not a name for a metric",
                         std::logic_error);
    CHECK_THROWS_WITH_AS(metrics.set("n", 1), "the metric n is not declared", std::logic_error);
    CHECK_THROWS_WITH_AS(metrics.set("m", 1, {{"a b", "x"}}), "\"a b\" is not a name for a metric's label",
                         std::logic_error);
  }

  TEST_CASE("label sets beyond the limit are counted together") {
    Metrics metrics;
    metrics.declare("m", kCounter, "h");
    for (size_t i = 0; i < Metrics::kMaxSeries + 10; ++i)
      metrics.add("m", 1, {{"client", std::to_string(i)}});
    CHECK(metrics.value("m", {{"client", "0"}}) == 1);
    CHECK(metrics.value("m", {{"client", std::to_string(Metrics::kMaxSeries)}}) == 0);
    CHECK(metrics.value("m", {{"client", "(other)"}}) == 10);
  }

  TEST_CASE("threads add without losing anything while another reads") {
    Metrics metrics;
    metrics.declare("m", kCounter, "h");
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&metrics, t] {
        for (int i = 0; i < 5000; ++i) metrics.add("m", 1, {{"thread", std::to_string(t % 2)}});
      });
    }
    for (int i = 0; i < 50; ++i) (void)metrics.prometheus_text();
    for (std::thread& thread : threads) thread.join();
    CHECK(metrics.value("m", {{"thread", "0"}}) == 10000);
    CHECK(metrics.value("m", {{"thread", "1"}}) == 10000);
  }

  TEST_CASE("the process' own figures are of this process") {
    Metrics metrics;
    tandem::declare_process_metrics(metrics);
    tandem::update_process_metrics(metrics);
    CHECK(metrics.value("process_resident_memory_bytes") > 1e6);
    CHECK(metrics.value("process_cpu_seconds_total") > 0);
    CHECK(metrics.value("process_open_fds") >= 3);
    const double started = metrics.value("process_start_time_seconds");
    CHECK(started <= static_cast<double>(std::time(nullptr)) + 1);
    CHECK(started > static_cast<double>(std::time(nullptr)) - 3600);
  }
}
