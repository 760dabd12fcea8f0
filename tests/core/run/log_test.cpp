#include "tandem/core/run/log.h"

#include <chrono>
#include <cmath>
#include <limits>
#include <string>

#include "support/test.h"
#include "tandem/core/run/log_detail.h"

using tandem::detail::json_line;
using tandem::detail::LogFields;

namespace {

const auto kMoment = std::chrono::system_clock::time_point(std::chrono::milliseconds(1'795'611'600'123));

std::string line_of(const std::string& message, const LogFields& fields = LogFields::object()) {
  return json_line(kMoment, "info", "tandem-edge", message, fields);
}

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

  TEST_CASE("a format has two names") {
    CHECK(tandem::parse_log_format("json") == tandem::LogFormat::kJson);
    CHECK(tandem::parse_log_format("text") == tandem::LogFormat::kText);
  }
}
