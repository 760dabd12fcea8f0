#include "tandem/core/run/progress.h"

#include <limits>

#include "support/test.h"
#include "tandem/core/run/progress_format_detail.h"

using tandem::format_bytes;
using tandem::format_duration;
using tandem::ProgressState;
using namespace tandem::detail;

namespace {

ProgressState some_state() {
  ProgressState state;
  state.label = "round 2/5";
  state.done = 630;
  state.total = 1000;
  state.loss = 0.4123;
  state.accuracy = 0.851;
  state.examples_per_second = 4812.4;
  state.bytes_up = 1'210'000'000;
  state.bytes_down = 1'190'000'000;
  state.seconds_left = 42.9;
  return state;
}

tandem::RoundRecord some_round() {
  tandem::RoundRecord record;
  record.round = 2;
  record.loss = 0.41231;
  record.accuracy = 0.851;
  record.eval_accuracy = 0.8642;
  record.clients = 4;
  record.examples = 60000;
  record.seconds = 12.34;
  record.bytes_up = 750'100'000;
  record.bytes_down = 750'080'000;
  return record;
}

int columns_of(const std::string& text) {
  int columns = 0;
  for (const char c : text) columns += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  return columns;
}

const ProgressStyle kPlain{.terminal = false};
const ProgressStyle kTerminal{.terminal = true, .colour = false, .unicode = true, .width = 200};

}  // namespace

TEST_SUITE("core/run/progress") {
  TEST_CASE("format_bytes uses decimal units and never shows 1000 of one") {
    const std::pair<int64_t, const char*> cases[] = {
        {0, "0 B"},
        {999, "999 B"},
        {1000, "1 kB"},
        {312'400, "312 kB"},
        {999'499, "999 kB"},
        {999'500, "1.0 MB"},
        {1'000'000, "1.0 MB"},
        {750'100'000, "750.1 MB"},
        {999'949'999, "999.9 MB"},
        {999'950'000, "1.0 GB"},
        {1'500'000'000, "1.5 GB"},
        {INT64_MAX, "9.2 EB"},
        {-5, "-5 B"},
        {-1'500'000, "-1.5 MB"},
    };
    for (const auto& [bytes, text] : cases) {
      CAPTURE(bytes);
      CHECK(format_bytes(bytes) == text);
    }
  }

  TEST_CASE("format_duration counts whole seconds") {
    CHECK(format_duration(0) == "0:00");
    CHECK(format_duration(7.9) == "0:07");
    CHECK(format_duration(125) == "2:05");
    CHECK(format_duration(3599.99) == "59:59");
    CHECK(format_duration(3723) == "1:02:03");
    CHECK(format_duration(360000) == "100:00:00");
    CHECK(format_duration(-3) == "0:00");
    CHECK(format_duration(std::numeric_limits<double>::quiet_NaN()) == "0:00");
  }

  TEST_CASE("format_count groups thousands, format_fixed has no locale") {
    CHECK(format_count(0) == "0");
    CHECK(format_count(999) == "999");
    CHECK(format_count(1000) == "1,000");
    CHECK(format_count(60000) == "60,000");
    CHECK(format_count(-1234567) == "-1,234,567");
    CHECK(format_fixed(2.0 / 3, 4) == "0.6667");
    CHECK(format_fixed(1e300, 0).size() == 301);
    CHECK(format_fixed(std::numeric_limits<double>::infinity(), 2) == "-");
  }

  TEST_CASE("the bar line shows position, figures and time left") {
    // 0.63 of 24 columns is 30.24 half columns: 15 full ones.
    CHECK(format_bar_line(some_state(), kTerminal) ==
          "round 2/5 ━━━━━━━━━━━━━━━─────────  63%  loss 0.412  acc 85.1%  4,812 ex/s  ↑1.2 GB ↓1.2 GB  0:42 "
          "left");
    ProgressStyle ascii = kTerminal;
    ascii.unicode = false;
    CHECK(
        format_bar_line(some_state(), ascii) ==
        "round 2/5 ###############.........  63%  loss 0.412  acc 85.1%  4,812 ex/s  up 1.2 GB down 1.2 GB  "
        "0:42 left");
  }

  TEST_CASE("the bar moves by half columns") {
    ProgressState state = some_state();
    state.done = 650;  // 31.2 half columns
    CHECK(format_bar_line(state, kTerminal).find(" ━━━━━━━━━━━━━━━╸────────  65%") != std::string::npos);
    state.done = 0;
    CHECK(format_bar_line(state, kTerminal).find(" ────────────────────────  0%") != std::string::npos);
    state.done = 5000;
    CHECK(format_bar_line(state, kTerminal).find(" ━━━━━━━━━━━━━━━━━━━━━━━━  100%") != std::string::npos);
    state.total = 0;
    CHECK(format_bar_line(state, kTerminal).find(" ────────────────────────  0%") != std::string::npos);
  }

  TEST_CASE("the bar line fits any width, first by a shorter bar") {
    ProgressStyle style = kTerminal;
    const int full = columns_of(format_bar_line(some_state(), style));
    style.width = full - 10;
    const std::string shorter = format_bar_line(some_state(), style);
    CHECK(columns_of(shorter) == style.width);
    CHECK(shorter.find("0:42 left") != std::string::npos);
    for (style.width = 0; style.width < full; ++style.width) {
      CAPTURE(style.width);
      CHECK(columns_of(format_bar_line(some_state(), style)) == style.width);
    }
    style.width = 12;
    CHECK(format_bar_line(some_state(), style) == "round 2/5 ━━");
  }

  TEST_CASE("colours wrap the text and do not count as columns") {
    ProgressStyle style = kTerminal;
    style.colour = true;
    style.width = 12;
    CHECK(format_bar_line(some_state(), style) == "\x1b[1mround 2/5 \x1b[0m\x1b[36m━━\x1b[0m");
  }

  TEST_CASE("a finished round is one line; figures that do not exist are left out") {
    CHECK(format_round_line(some_round(), 5) ==
          "round 2/5  loss 0.4123  accuracy 85.10 %  eval 86.42 %  clients 4  examples 60,000  12.3 s  up "
          "750.1 "
          "MB  down 750.1 MB");
    tandem::RoundRecord record = some_round();
    record.eval_accuracy.reset();
    CHECK(format_round_line(record, 5).find("eval") == std::string::npos);
    record.eval_loss = 1.5;
    CHECK(format_round_line(record, 5).find("  eval loss 1.5000  clients 4") != std::string::npos);
    record.loss = std::numeric_limits<double>::quiet_NaN();
    CHECK(format_round_line(record, 5).find("  loss -  ") != std::string::npos);
  }

  TEST_CASE("the closing table is aligned and ends with the report") {
    tandem::RunSummary summary{"completed", "parallel", "fedavg",   "cnn",       2,
                               5,           4,          0.8642,     0.4012,      62.5,
                               4812.4,      3750500000, 3749900000, 512'340'000, {}};
    const std::string table =
        "status       completed\n"
        "model        cnn, cut 2\n"
        "algorithm    parallel, fedavg\n"
        "rounds       5\n"
        "clients      4\n"
        "evaluation   accuracy 86.42 %, loss 0.4012\n"
        "time         1:02, 4,812 examples/s\n"
        "bytes        up 3.8 GB, down 3.7 GB\n"
        "peak memory  512.3 MB\n";
    CHECK(format_summary(summary, "") == table);
    CHECK(format_summary(summary, "").find("lost ") == std::string::npos);
    tandem::RunSummary with_losses = summary;
    with_losses.lost_rounds = {{"cam-1", 3}, {"cam-2", 1}};
    CHECK(format_summary(with_losses, "")
              .find("lost         cam-1 in 3 rounds, cam-2 in 1 round\nevaluation") != std::string::npos);
    CHECK(format_summary(summary, "runs/x/report.html") == table + "report: runs/x/report.html\n");
    summary.eval_accuracy.reset();
    CHECK(format_summary(summary, "").find("evaluation   loss 0.4012\n") != std::string::npos);
    summary.eval_loss.reset();
    CHECK(format_summary(summary, "").find("evaluation   -\n") != std::string::npos);
  }

  TEST_CASE("the locale's name decides about UTF-8, the first that is set") {
    CHECK(locale_is_utf8(nullptr, nullptr, "en_US.UTF-8"));
    CHECK(locale_is_utf8("", "C.utf8", "C"));
    CHECK_FALSE(locale_is_utf8("C", nullptr, "en_US.UTF-8"));
    CHECK_FALSE(locale_is_utf8(nullptr, nullptr, nullptr));
  }

  TEST_CASE("without a terminal there is at most one line in ten seconds") {
    const ProgressRenderer::Clock::time_point start{};
    using std::chrono::milliseconds;
    using std::chrono::seconds;
    ProgressRenderer renderer(kPlain, start);
    CHECK(renderer.update(some_state(), start) == "");
    CHECK(renderer.update(some_state(), start + milliseconds(9999)) == "");
    CHECK(renderer.update(some_state(), start + seconds(10)) ==
          "round 2/5  63%  loss 0.412  acc 85.1%  4,812 ex/s  up 1.2 GB down 1.2 GB  0:42 left\n");
    CHECK(renderer.update(some_state(), start + seconds(19)) == "");
    // A finished round is always a line, and starts the ten seconds anew.
    CHECK(renderer.round(some_round(), 5, start + seconds(19)) == format_round_line(some_round(), 5) + "\n");
    CHECK(renderer.update(some_state(), start + seconds(28)) == "");
    CHECK(renderer.update(some_state(), start + seconds(29)) != "");
    CHECK(renderer.note("hello") == "hello\n");
    CHECK(renderer.clear() == "");
  }

  TEST_CASE("on a terminal the bar is redrawn ten times a second at most") {
    const ProgressRenderer::Clock::time_point start{};
    using std::chrono::milliseconds;
    ProgressRenderer renderer(kTerminal, start);
    const std::string bar = format_bar_line(some_state(), kTerminal);
    CHECK(renderer.update(some_state(), start) == "\r" + bar + "\x1b[K");
    CHECK(renderer.update(some_state(), start + milliseconds(99)) == "");
    CHECK(renderer.update(some_state(), start + milliseconds(100)) == "\r" + bar + "\x1b[K");
    CHECK(renderer.note("cam-1 left") == "\r\x1b[Kcam-1 left\n" + bar);
    CHECK(renderer.round(some_round(), 5, start + milliseconds(100)) ==
          "\r\x1b[K" + format_round_line(some_round(), 5) + "\n");
    // No bar is left to be erased, and the next round's appears at once.
    CHECK(renderer.clear() == "");
    CHECK(renderer.update(some_state(), start + milliseconds(101)) == "\r" + bar + "\x1b[K");
    CHECK(renderer.clear() == "\r\x1b[K");
  }

  TEST_CASE("control characters of a client's name do not reach the terminal") {
    ProgressRenderer renderer(kPlain, {});
    CHECK(renderer.note("a\x1b[2Jb\nc\x7f\u009bd\u00e9") == "a?[2Jb?c??d\u00e9\n");
    tandem::RunSummary summary;
    summary.model = "cnn\x1b[2J";
    CHECK(format_summary(summary, "").find('\x1b') == std::string::npos);
  }
}
