#include "tandem/core/run/run_directory.h"

#include <signal.h>
#include <sys/resource.h>

#include <cmath>
#include <limits>

#include <nlohmann/json.hpp>

#include "core/run/temporary_folder.h"
#include "support/test.h"

using tandem::RunDirectory;

namespace {

std::vector<nlohmann::ordered_json> metrics_of(const RunDirectory& run) {
  std::vector<nlohmann::ordered_json> lines;
  std::istringstream in(content_of(run.path() / "metrics.jsonl"));
  for (std::string line; std::getline(in, line);) lines.push_back(nlohmann::ordered_json::parse(line));
  return lines;
}

std::vector<std::string> keys_of(const nlohmann::ordered_json& object) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : object.items()) keys.push_back(key);
  return keys;
}

/// Lets files of this process grow to `bytes` at most, as a full disk would.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : handler_(signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &old_);
    const rlimit limit{bytes, old_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &old_);
    signal(SIGXFSZ, handler_);
  }

 private:
  rlimit old_{};
  void (*handler_)(int);
};

}  // namespace

TEST_SUITE("core/run/run_directory") {
  TEST_CASE("create makes parents and refuses a folder that holds a run") {
    TemporaryFolder folder;
    const auto path = folder.path / "runs" / "x";
    auto first = RunDirectory::create(path);
    REQUIRE(first.has_value());
    REQUIRE(first->append(tandem::EventRecord{.event = "join"}).has_value());
    const auto again = RunDirectory::create(path);
    REQUIRE_FALSE(again.has_value());
    CHECK(again.error().code == tandem::ErrorCode::kInvalidArgument);
    CHECK(again.error().message ==
          path.string() +
              " already holds a run (metrics.jsonl), and nothing is overwritten; choose another --run-dir or "
              "move it away");
  }

  TEST_CASE("a run that recorded nothing does not occupy its directory") {
    const TemporaryFolder folder;
    REQUIRE(RunDirectory::create(folder.path / "run").has_value());
    CHECK_FALSE(std::filesystem::exists(folder.path / "run" / "metrics.jsonl"));
    CHECK(RunDirectory::create(folder.path / "run").has_value());
  }

  TEST_CASE("create takes a folder that is there without a run") {
    TemporaryFolder folder;
    CHECK(RunDirectory::create(folder.path).has_value());
  }

  TEST_CASE(
      "a file of somebody else's is not overwritten, and a run that recorded nothing takes its own along") {
    for (const char* name : {"config.toml", "summary.json", "report.html", "model.safetensors",
                             "front.safetensors", "tail.safetensors", "head.safetensors"}) {
      CAPTURE(name);
      TemporaryFolder folder;
      std::ofstream(folder.path / name) << "mine";
      const auto run = RunDirectory::create(folder.path);
      REQUIRE_FALSE(run.has_value());
      CHECK(run.error().code == tandem::ErrorCode::kInvalidArgument);
      CHECK(run.error().message ==
            folder.path.string() + " already holds a run (" + name +
                "), and nothing is overwritten; choose another --run-dir or move it away");
      CHECK(content_of(folder.path / name) == "mine");
      CHECK_FALSE(std::filesystem::exists(folder.path / "metrics.jsonl"));
    }
    TemporaryFolder folder;
    REQUIRE(RunDirectory::create(folder.path).value().write_config("rounds = 5\n").has_value());
    CHECK(std::filesystem::is_empty(folder.path));
  }

  TEST_CASE("metrics.jsonl that somebody moves or removes goes on in a new file") {
    TemporaryFolder folder;
    auto run = RunDirectory::create(folder.path / "run").value();
    REQUIRE(run.write_config("rounds = 5\n").has_value());
    REQUIRE(run.append(tandem::EventRecord{"join", 1, "a", ""}).has_value());
    std::filesystem::rename(folder.path / "run" / "metrics.jsonl", folder.path / "moved");
    REQUIRE(run.append(tandem::EventRecord{"join", 1, "b", ""}).has_value());
    CHECK(content_of(folder.path / "moved").find("\"a\"") != std::string::npos);
    CHECK(content_of(folder.path / "moved").find("\"b\"") == std::string::npos);
    REQUIRE(metrics_of(run).size() == 1);
    CHECK(metrics_of(run)[0]["client"] == "b");
    std::filesystem::remove_all(folder.path / "run");
    REQUIRE(run.append(tandem::EventRecord{"join", 1, "c", ""}).has_value());
    REQUIRE(metrics_of(run).size() == 1);
    CHECK(metrics_of(run)[0]["client"] == "c");
    CHECK(content_of(folder.path / "run" / "config.toml") == "rounds = 5\n");
    REQUIRE(run.write_report().has_value());
  }

  TEST_CASE("a directory holds results from its first finished round on") {
    TemporaryFolder folder;
    CHECK_FALSE(RunDirectory::holds_results(folder.path));
    {
      auto run = RunDirectory::create(folder.path).value();
      REQUIRE(run.append(tandem::EventRecord{"join", 1, "a", ""}).has_value());
      CHECK_FALSE(RunDirectory::holds_results(folder.path));
      tandem::RoundRecord round;
      round.round = 1;
      REQUIRE(run.append(round).has_value());
    }
    CHECK(RunDirectory::holds_results(folder.path));
    auto resumed = RunDirectory::resume(folder.path, 0).value();
    CHECK(metrics_of(resumed).size() == 1);
    CHECK_FALSE(RunDirectory::holds_results(folder.path));
    std::ofstream(folder.path / "model.safetensors") << "weights";
    CHECK(RunDirectory::holds_results(folder.path));
  }

  TEST_CASE("create reports what the file system refused") {
    TemporaryFolder folder;
    std::ofstream(folder.path / "file") << "x";
    const auto run = RunDirectory::create(folder.path / "file" / "run");
    REQUIRE_FALSE(run.has_value());
    CHECK(run.error().code == tandem::ErrorCode::kIo);
    CHECK(run.error().message ==
          "cannot create " + (folder.path / "file" / "run").string() + ": Not a directory");
  }

  TEST_CASE("records become lines with the agreed fields in the agreed order") {
    TemporaryFolder folder;
    auto run = RunDirectory::create(folder.path).value();
    tandem::RoundRecord round;
    round.round = 2;
    round.loss = 0.5;
    round.accuracy = 0.75;
    round.eval_accuracy = 0.875;
    round.clients = 3;
    round.examples = 600;
    round.steps = 10;
    round.seconds = 1.5;
    round.bytes_up = 5'000'000'000;
    round.bytes_down = 7;
    REQUIRE(run.append(round).has_value());
    REQUIRE(run.append(tandem::ClientRecord{2, "cam-1", 0.25, 0.5, 200, 10, 1, 11, 12}).has_value());
    REQUIRE(run.append(tandem::EventRecord{"leave", 2, "cam-1", "timeout"}).has_value());
    REQUIRE(run.append(tandem::EventRecord{"resume", 0, "", "from step 3"}).has_value());

    const auto lines = metrics_of(run);
    REQUIRE(lines.size() == 4);
    CHECK(keys_of(lines[0]) == std::vector<std::string>{"event", "round", "loss", "accuracy", "eval_loss",
                                                        "eval_accuracy", "clients", "examples", "steps",
                                                        "seconds", "bytes_up", "bytes_down",
                                                        "bytes_up_formula", "bytes_down_formula", "time"});
    CHECK(lines[0]["event"] == "round");
    CHECK(lines[0]["round"] == 2);
    CHECK(lines[0]["loss"] == 0.5);
    CHECK(lines[0]["eval_loss"].is_null());
    CHECK(lines[0]["eval_accuracy"] == 0.875);
    CHECK(lines[0]["bytes_up"] == 5'000'000'000);
    CHECK(keys_of(lines[1]) ==
          std::vector<std::string>{"event", "round", "client", "loss", "accuracy", "examples", "steps",
                                   "missed_steps", "bytes_up", "bytes_down", "bytes_up_formula",
                                   "bytes_down_formula", "eval_loss", "eval_accuracy", "time"});
    CHECK(lines[1]["event"] == "client");
    CHECK(lines[1]["missed_steps"] == 1);
    CHECK(lines[1]["bytes_down"] == 12);
    CHECK(keys_of(lines[2]) == std::vector<std::string>{"event", "round", "client", "detail", "time"});
    CHECK(lines[2]["event"] == "leave");
    CHECK(lines[2]["detail"] == "timeout");
    CHECK(lines[3]["client"].is_null());
    for (const auto& line : lines) {
      const double time = line["time"];
      CHECK(time >= 0);
      CHECK(std::abs(time * 1000 - std::round(time * 1000)) < 1e-6);
    }
  }

  TEST_CASE("figures that are not finite become null, and bytes that are not UTF-8 are replaced") {
    TemporaryFolder folder;
    auto run = RunDirectory::create(folder.path).value();
    tandem::RoundRecord round;
    round.loss = std::numeric_limits<double>::quiet_NaN();
    round.accuracy = std::numeric_limits<double>::infinity();
    round.eval_loss = std::numeric_limits<double>::quiet_NaN();
    REQUIRE(run.append(round).has_value());
    REQUIRE(run.append(tandem::EventRecord{"leave", 1, "a\xff\nb", ""}).has_value());
    const auto lines = metrics_of(run);
    REQUIRE(lines.size() == 2);
    CHECK(lines[0]["loss"].is_null());
    CHECK(lines[0]["accuracy"].is_null());
    CHECK(lines[0]["eval_loss"].is_null());
    CHECK(lines[1]["client"] == "a\uFFFD\nb");
  }

  TEST_CASE("a full disk is kIo with path and reason, and leaves whole lines only") {
    TemporaryFolder folder;
    auto run = RunDirectory::create(folder.path).value();
    REQUIRE(run.append(tandem::EventRecord{"join", 1, "a", ""}).has_value());
    const std::string before = content_of(folder.path / "metrics.jsonl");
    {
      const FileSizeLimit limit(before.size() + 10);
      const auto failed = run.append(tandem::EventRecord{"join", 1, "b", ""});
      REQUIRE_FALSE(failed.has_value());
      CHECK(failed.error().code == tandem::ErrorCode::kIo);
      CHECK(failed.error().message == "cannot write " + (folder.path / "metrics.jsonl").string() +
                                          ": File too large; free space there or choose another --run-dir");
      CHECK_FALSE(run.append(tandem::EventRecord{"join", 1, "c", ""}).has_value());
      CHECK_FALSE(run.write_config("rounds = 5\n").has_value());
    }
    CHECK(content_of(folder.path / "metrics.jsonl") == before);
    // With the next line everything that waited is there, in order.
    REQUIRE(run.append(tandem::EventRecord{"join", 1, "d", ""}).has_value());
    const auto lines = metrics_of(run);
    REQUIRE(lines.size() == 4);
    for (size_t i = 0; i < 4; ++i) CHECK(lines[i]["client"] == std::string(1, static_cast<char>('a' + i)));
    CHECK(content_of(folder.path / "config.toml") == "rounds = 5\n");
  }

  TEST_CASE("the summary has the agreed fields in the agreed order") {
    TemporaryFolder folder;
    auto run = RunDirectory::create(folder.path).value();
    tandem::RunSummary summary;
    summary.status = "completed";
    summary.cut = 2;
    summary.eval_loss = 0.25;
    summary.peak_rss_bytes = 123;
    REQUIRE(run.write_summary(summary).has_value());
    const auto json = nlohmann::ordered_json::parse(content_of(folder.path / "summary.json"));
    CHECK(keys_of(json) == std::vector<std::string>{"status", "algorithm", "strategy", "model", "cut",
                                                    "rounds", "clients", "lost_rounds", "eval_accuracy",
                                                    "eval_loss", "seconds", "examples_per_second", "bytes_up",
                                                    "bytes_down", "peak_rss_bytes"});
    CHECK(json["status"] == "completed");
    CHECK(json["cut"] == 2);
    CHECK(json["eval_accuracy"].is_null());
    CHECK(json["eval_loss"] == 0.25);
    CHECK(json["peak_rss_bytes"] == 123);
  }

  TEST_CASE("config and report are files of the directory") {
    TemporaryFolder folder;
    auto run = RunDirectory::create(folder.path).value();
    REQUIRE(run.write_config("rounds = 5\n").has_value());
    CHECK(content_of(folder.path / "config.toml") == "rounds = 5\n");
    REQUIRE(run.write_report().has_value());
    CHECK(content_of(folder.path / "report.html").find("rounds = 5") != std::string::npos);
    CHECK(run.checkpoints() == folder.path / "checkpoints");
  }

  TEST_CASE("peak_rss_bytes grows with memory that was touched") {
    const int64_t before = tandem::peak_rss_bytes();
    CHECK(before > 1'000'000);
    constexpr size_t kBytes = 300'000'000;
    std::vector<char> memory(kBytes, 1);
    volatile char last = memory.back();
    CHECK(last == 1);
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    const int64_t after = tandem::peak_rss_bytes();
    CHECK(after >= static_cast<int64_t>(kBytes));
    // The kernel's other account of the same figure, in KiB.
    CHECK(std::abs(static_cast<double>(after) - usage.ru_maxrss * 1024.0) < 0.02 * after);
  }
}
