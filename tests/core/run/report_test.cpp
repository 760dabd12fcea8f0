#include "tandem/core/run/report.h"

#include "core/run/temporary_folder.h"
#include "support/test.h"
#include "tandem/core/run/run_directory.h"

using tandem::render_report;
using tandem::RunDirectory;

namespace {

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

tandem::RoundRecord round_record(uint32_t round) {
  tandem::RoundRecord record;
  record.round = round;
  record.loss = 1.0 / round;
  record.accuracy = 0.5;
  record.clients = 2;
  record.examples = 1000;
  record.seconds = 2;
  record.bytes_up = 1'000'000;
  record.bytes_down = 2'000'000;
  return record;
}

tandem::RunSummary some_summary() {
  tandem::RunSummary summary;
  summary.status = "completed";
  summary.algorithm = "parallel";
  summary.strategy = "fedavg";
  summary.model = "cnn";
  summary.cut = 2;
  summary.rounds = 2;
  summary.clients = 2;
  summary.eval_accuracy = 0.9123;
  summary.eval_loss = 0.25;
  summary.seconds = 64;
  summary.examples_per_second = 4812;
  summary.bytes_up = 3'750'500'000;
  summary.bytes_down = 1'000'000;
  summary.peak_rss_bytes = 512'000'000;
  return summary;
}

std::string figure(const std::string& name, const std::string& value) {
  return "<dt>" + name + "</dt><dd>" + value + "</dd>";
}

}  // namespace

TEST_SUITE("core/run/report") {
  TEST_CASE("a whole run is one page with figures, curves, clients, events and configuration") {
    TemporaryFolder folder;
    auto run = RunDirectory::create(folder.path / "first").value();
    run.write_config("# Training\nrounds = 2\n").value();
    run.append(tandem::EventRecord{"join", 0, "cam-1", "hello"}).value();
    for (uint32_t round = 1; round <= 2; ++round) {
      auto record = round_record(round);
      record.eval_loss = 0.5;
      record.eval_accuracy = 0.8 + 0.01 * round;
      run.append(record).value();
      run.append(tandem::ClientRecord{round, "cam-2", 0.5, 0.25, 700, 10, 1, 1'000'000, 0}).value();
      run.append(tandem::ClientRecord{round, "cam-1", 1.0 / round, 0.75, 600, 10, 0, 0, 0}).value();
    }
    run.write_summary(some_summary()).value();

    const auto html = render_report(folder.path / "first");
    REQUIRE(html.has_value());
    CHECK(has(*html, "<h1>first</h1><span class=\"status completed\">completed</span>"));
    CHECK(has(*html, "cnn, cut 2 · parallel · fedavg · 2 rounds · 2 clients"));
    CHECK(has(*html, figure("Evaluation accuracy", "91.23 %")));
    CHECK(has(*html, figure("Evaluation loss", "0.2500")));
    CHECK(has(*html, figure("Time", "1:04")));
    CHECK(has(*html, figure("Time per round", "32.0 s")));
    CHECK(has(*html, figure("Examples per second", "4,812")));
    CHECK(has(*html, figure("Bytes up", "3.8 GB")));
    CHECK(has(*html, figure("Bytes down", "1.0 MB")));
    CHECK(has(*html, figure("Peak memory", "512.0 MB")));
    CHECK(count_of(*html, "<svg") == 4);
    CHECK(has(*html, "<title>round 2, evaluation: 82.00 %</title>"));
    CHECK(has(*html, "<title>round 1, up: 1.0 MB</title>"));
    CHECK(has(*html,
              "<tr><td>cam-1</td><td class=\"n\">2</td><td class=\"n\">1,200</td><td "
              "class=\"n\">0.5000</td><td class=\"n\">75.00 %</td><td class=\"n\">0</td>"));
    CHECK(has(*html,
              "<td>cam-2</td><td class=\"n\">2</td><td class=\"n\">1,400</td><td class=\"n\">0.5000</td>"
              "<td class=\"n\">25.00 %</td><td class=\"n\">2</td><td class=\"n\">2.0 MB</td>"));
    CHECK(html->find("<td>cam-1</td><td class") < html->find("<td>cam-2</td><td class"));
    CHECK(has(*html, "<td>join</td><td>cam-1</td><td class=\"wide\">hello</td>"));
    CHECK(has(*html, "<pre># Training\nrounds = 2\n</pre>"));
    CHECK_FALSE(has(*html, "class=\"note\""));
  }

  TEST_CASE("a client's loss is that of the last round in which it trained") {
    TemporaryFolder folder;
    auto run = RunDirectory::create(folder.path).value();
    run.append(tandem::ClientRecord{1, "cam-1", 0.5, 0.75, 600, 10, 0, 0, 0}).value();
    run.append(tandem::ClientRecord{2, "cam-1", 0, 0, 0, 0, 0, 0, 0}).value();
    run.append(round_record(1)).value();
    run.append(round_record(2)).value();
    const auto html = render_report(folder.path);
    REQUIRE(html.has_value());
    CHECK(has(*html,
              "<tr><td>cam-1</td><td class=\"n\">1</td><td class=\"n\">600</td><td "
              "class=\"n\">0.5000</td><td class=\"n\">75.00 %</td>"));
  }

  TEST_CASE("the page is self-contained and runs no script") {
    TemporaryFolder folder;
    auto run = RunDirectory::create(folder.path).value();
    run.append(round_record(1)).value();
    const auto html = render_report(folder.path);
    REQUIRE(html.has_value());
    for (const char* part : {"<script", "http://", "https://", "src=", "href=", "url(", "@import"}) {
      CAPTURE(part);
      CHECK_FALSE(has(*html, part));
    }
    CHECK(has(*html, "default-src 'none'"));
  }

  TEST_CASE("whatever comes from clients or the configuration is escaped") {
    TemporaryFolder folder;
    auto run = RunDirectory::create(folder.path / "<i>run").value();
    const std::string evil = "<script>alert('x')</script>\"&";
    run.write_config("name = \"</pre>" + evil + "\"\n").value();
    run.append(round_record(1)).value();
    run.append(tandem::ClientRecord{1, evil, 1, 1, 1, 1, 0, 0, 0}).value();
    run.append(tandem::EventRecord{evil, 1, evil, evil}).value();
    auto summary = some_summary();
    summary.status = summary.model = summary.algorithm = summary.strategy = evil;
    run.write_summary(summary).value();
    const auto html = render_report(folder.path / "<i>run");
    REQUIRE(html.has_value());
    CHECK_FALSE(has(*html, "<script"));
    CHECK_FALSE(has(*html, "</script"));
    CHECK_FALSE(has(*html, "<i>"));
    CHECK(count_of(*html, "</pre>") == 1);
    CHECK(count_of(*html, "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&quot;&amp;") == 9);
  }

  TEST_CASE("a run without a summary says so and adds up its rounds") {
    TemporaryFolder folder;
    auto run = RunDirectory::create(folder.path).value();
    auto first = round_record(1);
    first.eval_accuracy = 0.75;
    run.append(first).value();
    run.append(round_record(2)).value();
    const auto html = render_report(folder.path);
    REQUIRE(html.has_value());
    CHECK(has(*html, "There is no summary.json: the run is still going on, or was killed."));
    CHECK(has(*html, "There is no config.toml"));
    CHECK(has(*html, "<span class=\"status\">no summary</span>"));
    CHECK(has(*html, figure("Evaluation accuracy", "75.00 %")));  // the last one known
    CHECK(has(*html, figure("Evaluation loss", "–")));
    CHECK(has(*html, figure("Time", "0:04")));
    CHECK(has(*html, figure("Examples per second", "500")));
    CHECK(has(*html, figure("Bytes up", "2.0 MB")));
    CHECK(has(*html, figure("Peak memory", "–")));
  }

  TEST_CASE("no round, one round and rounds without any figure are pages too") {
    TemporaryFolder folder;
    auto none = RunDirectory::create(folder.path / "none").value();
    none.write_summary({}).value();
    const auto empty = render_report(folder.path / "none");
    REQUIRE(empty.has_value());
    CHECK(has(*empty, "No round was finished."));
    CHECK(count_of(*empty, "<svg") == 0);
    CHECK(has(*empty, figure("Time per round", "–")));

    auto one = RunDirectory::create(folder.path / "one").value();
    one.append(round_record(1)).value();
    CHECK(count_of(render_report(folder.path / "one").value(), "<svg") == 4);

    std::filesystem::create_directory(folder.path / "bare");
    std::ofstream(folder.path / "bare/metrics.jsonl")
        << "{\"event\":\"round\",\"round\":1,\"loss\":null,\"accuracy\":\"high\"}\n";
    const auto bare = render_report(folder.path / "bare");
    REQUIRE(bare.has_value());
    CHECK(count_of(*bare, "No figures.") == 4);
  }

  TEST_CASE("many events are cut, and counted") {
    TemporaryFolder folder;
    auto run = RunDirectory::create(folder.path).value();
    for (int i = 0; i < 503; ++i) run.append(tandem::EventRecord{"join", 0, "c", ""}).value();
    const auto html = render_report(folder.path);
    REQUIRE(html.has_value());
    CHECK(count_of(*html, "<td>join</td>") == 500);
    CHECK(has(*html, "3 more in metrics.jsonl."));
  }

  TEST_CASE("a last line cut short is left out with a note, any other bad line is an error") {
    TemporaryFolder folder;
    const auto metrics = folder.path / "metrics.jsonl";
    std::ofstream(metrics) << "{\"event\":\"round\",\"round\":1,\"loss\":1}\n{\"event\":\"rou";
    const auto cut = render_report(folder.path);
    REQUIRE(cut.has_value());
    CHECK(has(*cut, "The last line of metrics.jsonl is incomplete and was left out."));

    for (const char* line : {"{\"event\":\"rou", "[1]", ""}) {
      CAPTURE(line);
      std::ofstream(metrics) << "{\"event\":\"round\",\"round\":1}\n" << line << "\n{\"event\":\"join\"}\n";
      const auto bad = render_report(folder.path);
      REQUIRE_FALSE(bad.has_value());
      CHECK(bad.error().code == tandem::ErrorCode::kCorrupt);
      CHECK(bad.error().message == metrics.string() + ":2 is not a JSON object");
    }
  }

  TEST_CASE("figures of any size are a page too, and sums stop at the ends of their type") {
    TemporaryFolder folder;
    std::ofstream(folder.path / "metrics.jsonl")
        << R"({"event":"client","client":"a","examples":9223372036854775807,"missed_steps":1})"
           "\n"
        << R"({"event":"client","client":"a","examples":9223372036854775807,"bytes_up":-9223372036854775808})"
           "\n"
        << R"({"event":"round","round":1,"loss":1e16,"bytes_up":1e300,"seconds":5e-324,"examples":9223372036854775807})"
           "\n"
        << R"({"event":"round","round":2,"loss":10000000000000002,"bytes_up":1e300,"examples":9223372036854775807})"
           "\n";
    const auto html = render_report(folder.path);
    REQUIRE_MESSAGE(html.has_value(), html.error().message);
    CHECK(has(*html, "<td class=\"n\">9,223,372,036,854,775,807</td>"));
    CHECK(has(*html, figure("Bytes up", "9.0 EB")));
  }

  TEST_CASE("a planned run shows its step as planned and as measured, the median over the rounds") {
    TemporaryFolder folder;
    auto run = RunDirectory::create(folder.path / "planned").value();
    for (uint32_t round = 1; round <= 3; ++round) {
      tandem::RoundRecord record = round_record(round);
      record.seconds = 2.0 * round;
      run.append(record).value();
      for (const uint32_t steps : {50, 100}) {
        run.append(tandem::ClientRecord{.round = round, .client = "cam-1", .steps = steps}).value();
      }
    }
    std::ofstream(folder.path / "planned/plan.json") << R"({"terms": {"step_ms": 31.25}})";
    const std::string html = render_report(folder.path / "planned").value();
    CHECK(has(html, figure("Step as planned", "31.2 ms")));
    CHECK(has(html, figure("Step as measured", "40.0 ms")));
    std::ofstream(folder.path / "planned/plan.json") << R"({"terms": 3})";
    CHECK_FALSE(has(render_report(folder.path / "planned").value(), "Step as planned"));
    std::ofstream(folder.path / "planned/plan.json") << "[";
    CHECK(has(render_report(folder.path / "planned").error().message, "plan.json is not a JSON object"));
  }

  TEST_CASE("errors name the file") {
    TemporaryFolder folder;
    const auto missing = render_report(folder.path);
    REQUIRE_FALSE(missing.has_value());
    CHECK(missing.error().code == tandem::ErrorCode::kNotFound);
    CHECK(has(missing.error().message, (folder.path / "metrics.jsonl").string()));

    std::ofstream(folder.path / "metrics.jsonl") << "";
    std::ofstream(folder.path / "summary.json") << "{";
    const auto corrupt = render_report(folder.path);
    REQUIRE_FALSE(corrupt.has_value());
    CHECK(corrupt.error().code == tandem::ErrorCode::kCorrupt);
    CHECK(corrupt.error().message == (folder.path / "summary.json").string() + " is not a JSON object");
  }
}
