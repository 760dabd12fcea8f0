#include "tandem/core/run/log.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <set>
#include <sstream>
#include <string>

#include "core/run/temporary_folder.h"
#include "support/test.h"
#include "tandem/core/run/foreign_lines_detail.h"
#include "tandem/core/run/log_detail.h"

using tandem::detail::json_line;
using tandem::detail::LogFields;

namespace {

const auto kMoment = std::chrono::system_clock::time_point(std::chrono::milliseconds(1'795'611'600'123));

std::string line_of(const std::string& message, const LogFields& fields = LogFields::object()) {
  return json_line(kMoment, "info", "tandem-edge", message, fields);
}

/// While it lives, descriptor 2 is that file.
class StderrInFile {
 public:
  explicit StderrInFile(const std::filesystem::path& path) : before_(dup(2)) {
    const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    REQUIRE(dup2(file, 2) == 2);
    close(file);
  }
  ~StderrInFile() {
    dup2(before_, 2);
    close(before_);
  }

 private:
  int before_;
};

}  // namespace

TEST_SUITE("core/run/log") {
  TEST_CASE("a line is one object: time in UTC with milliseconds, level, program, message, then the fields") {
    CHECK(
        line_of("join cam-1", {{"event", "join"}, {"client", "cam-1"}, {"round", 3}}) ==
        R"({"time":"2026-11-25T13:00:00.123Z","level":"info","program":"tandem-edge","message":"join cam-1",)"
        R"("event":"join","client":"cam-1","round":3})"
        "\n");
  }

  TEST_CASE("a moment before a full second keeps its zeros") {
    const auto moment = std::chrono::system_clock::time_point(std::chrono::milliseconds(5007));
    CHECK(json_line(moment, "info", "p", "m").starts_with(R"({"time":"1970-01-01T00:00:05.007Z")"));
  }

  TEST_CASE("what would break a line or an object is escaped") {
    const std::string hostile = "a\"b\\c\nd\re\tf\x1b[31mg\x01";
    const std::string line = line_of(hostile);
    CHECK(line.find('\n') == line.size() - 1);
    for (const char c : line.substr(0, line.size() - 1)) CHECK(static_cast<unsigned char>(c) >= 0x20);
    CHECK(LogFields::parse(line).at("message") == hostile);
  }

  TEST_CASE("bytes that are not UTF-8 become U+FFFD") {
    for (const char* bytes : {"\xff", "\xc3", "\xed\xa0\x80", "\xf8\x88\x80\x80\x80"}) {
      CAPTURE(bytes);
      const std::string line = line_of(std::string("<") + bytes + ">", {{"client", bytes}});
      const LogFields parsed = LogFields::parse(line);  // throws on bad UTF-8
      CHECK(parsed.at("message").get<std::string>().find("\xef\xbf\xbd") == 1);
      CHECK(parsed.at("client").get<std::string>().starts_with("\xef\xbf\xbd"));
    }
  }

  TEST_CASE("figures that are not finite become null") {
    const LogFields parsed = LogFields::parse(line_of(
        "m", {{"loss", std::nan("")}, {"most", std::numeric_limits<double>::infinity()}, {"accuracy", 0.5}}));
    CHECK(parsed.at("loss").is_null());
    CHECK(parsed.at("most").is_null());
    CHECK(parsed.at("accuracy") == 0.5);
  }

  TEST_CASE("what a library writes to stderr becomes lines of the log, and afterwards all is as before") {
    const TemporaryFolder folder;
    const StderrInFile file(folder.path / "log");
    {
      const tandem::detail::ForeignLines foreign([](const std::string& line) {
        const std::string shown = "<" + line + ">\n";
        REQUIRE(write(tandem::detail::ForeignLines::log_descriptor(), shown.data(), shown.size()) > 0);
      });
      std::fprintf(stderr, "[W NNPACK.cpp:53] no %s\nhalf", "NNPACK");
      std::fprintf(stderr, " a line\n\nno end");
      REQUIRE(write(tandem::detail::ForeignLines::log_descriptor(), "{}\n", 3) == 3);
    }
    std::fprintf(stderr, "after\n");
    std::string text = content_of(folder.path / "log");
    REQUIRE(text.find("{}\n") != std::string::npos);  // beside the others, in any order
    text.erase(text.find("{}\n"), 3);
    CHECK(text == "<[W NNPACK.cpp:53] no NNPACK>\n<half a line>\n<no end>\nafter\n");
  }

  TEST_CASE("a JSON log is objects only, whoever writes") {
    const TemporaryFolder folder;
    {
      const StderrInFile file(folder.path / "log");
      tandem::configure_logging("tandem-test", tandem::LogFormat::kJson);
      spdlog::warn("from {}", "us");
      std::fprintf(stderr, "from a library\n");
      tandem::end_logging();
      tandem::configure_logging("tandem-test", tandem::LogFormat::kText);
    }
    std::istringstream lines(content_of(folder.path / "log"));
    std::set<std::string> messages;
    for (std::string line; std::getline(lines, line);) {
      const LogFields object = LogFields::parse(line);
      CHECK(object.at("level") == "warning");
      CHECK(object.at("program") == "tandem-test");
      messages.insert(object.at("message"));
    }
    CHECK(messages == std::set<std::string>{"from us", "from a library"});
  }

  TEST_CASE("the last words of a crash come through") {
    const TemporaryFolder folder;
    const pid_t child = fork();
    if (child == 0) {
      const rlimit no_core{0, 0};
      setrlimit(RLIMIT_CORE, &no_core);
      signal(SIGABRT, SIG_DFL);
      const StderrInFile file(folder.path / "log");
      // Nobody reads the pipe: what is in it would be lost.
      const tandem::detail::ForeignLines foreign([](const std::string&) { pause(); });
      std::fprintf(stderr, "first\n");
      poll(nullptr, 0, 50);
      std::fprintf(stderr, "last words\n");
      std::abort();
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(WIFSIGNALED(status));
    CHECK(WTERMSIG(status) == SIGABRT);
    CHECK(content_of(folder.path / "log").find("last words\n") != std::string::npos);
  }

  TEST_CASE("a format has two names") {
    CHECK(tandem::parse_log_format("json") == tandem::LogFormat::kJson);
    CHECK(tandem::parse_log_format("text") == tandem::LogFormat::kText);
  }
}
