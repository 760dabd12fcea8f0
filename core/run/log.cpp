#include "tandem/core/run/log.h"

#include <spdlog/formatter.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include "tandem/core/run/foreign_lines_detail.h"
#include "tandem/core/run/log_detail.h"

namespace tandem {
namespace {

std::atomic<LogFormat> g_format{LogFormat::kText};
std::optional<detail::ForeignLines> g_foreign;  // set and reset while there is one thread

/// spdlog's patterns put a message in as it is; JSON wants it escaped.
class JsonFormatter : public spdlog::formatter {
 public:
  explicit JsonFormatter(std::string program) : program_(std::move(program)) {}

  void format(const spdlog::details::log_msg& message, spdlog::memory_buf_t& into) override {
    const auto level = spdlog::level::to_string_view(message.level);
    const std::string line = detail::json_line(message.time, {level.data(), level.size()}, program_,
                                               {message.payload.data(), message.payload.size()});
    into.append(line.data(), line.data() + line.size());
  }

  std::unique_ptr<spdlog::formatter> clone() const override {
    return std::make_unique<JsonFormatter>(program_);
  }

 private:
  std::string program_;
};

/// Of JSON: a line to where stderr was, in one write. Who reads it may be gone.
void write_line(std::string_view line) {
  const int descriptor = detail::ForeignLines::log_descriptor();
  while (!line.empty()) {
    const ssize_t count = ::write(descriptor, line.data(), line.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return;
    line.remove_prefix(static_cast<size_t>(count));
  }
}

class LineSink : public spdlog::sinks::base_sink<std::mutex> {
 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    write_line({line.data(), line.size()});
  }
  void flush_() override {}
};

std::string utc_text(std::chrono::system_clock::time_point time) {
  const auto since_epoch = std::chrono::floor<std::chrono::milliseconds>(time.time_since_epoch());
  const std::time_t seconds = std::chrono::floor<std::chrono::seconds>(since_epoch).count();
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  std::array<char, 32> date{};
  std::strftime(date.data(), date.size(), "%Y-%m-%dT%H:%M:%S", &parts);
  std::array<char, 40> text{};
  std::snprintf(text.data(), text.size(), "%s.%03dZ", date.data(),
                static_cast<int>(since_epoch.count() % 1000));
  return text.data();
}

}  // namespace

LogFormat parse_log_format(const std::string& text) {
  return text == "json" ? LogFormat::kJson : LogFormat::kText;
}

void configure_logging(const std::string& program, LogFormat format) {
  g_format = format;
  // Standard output belongs to results; everything else goes to stderr.
  if (format == LogFormat::kJson) {
    auto logger = std::make_shared<spdlog::logger>(program, std::make_shared<LineSink>());
    logger->set_formatter(std::make_unique<JsonFormatter>(program));
    spdlog::set_default_logger(std::move(logger));
    g_foreign.emplace([](const std::string& line) { detail::write_json_line("warning", line); });
  } else {
    auto sink = std::make_shared<spdlog::sinks::stderr_color_sink_mt>();
    if (!detail::stderr_has_colour()) sink->set_color_mode(spdlog::color_mode::never);
    spdlog::set_default_logger(std::make_shared<spdlog::logger>(program, std::move(sink)));
    spdlog::set_pattern("%H:%M:%S %^%l%$ %v");
  }
  // A log that nobody reads any more is no reason to say so in it.
  spdlog::default_logger()->set_error_handler([](const std::string&) {});
}

void end_logging() {
  g_foreign.reset();
}

LogFormat log_format() {
  return g_format.load(std::memory_order_relaxed);
}

namespace detail {

std::string json_line(std::chrono::system_clock::time_point time, std::string_view level,
                      std::string_view program, std::string_view message, const LogFields& fields) {
  LogFields line = {{"time", utc_text(time)}, {"level", level}, {"program", program}, {"message", message}};
  line.update(fields);
  return line.dump(-1, ' ', false, LogFields::error_handler_t::replace) + "\n";
}

std::string json_line_now(std::string_view level, std::string_view message, const LogFields& fields) {
  return json_line(std::chrono::system_clock::now(), level, spdlog::default_logger()->name(), message,
                   fields);
}

void write_json_line(std::string_view level, std::string_view message, const LogFields& fields) {
  write_line(json_line_now(level, message, fields));
}

bool stderr_is_terminal() {
  const char* term = std::getenv("TERM");
  return ::isatty(STDERR_FILENO) != 0 && term != nullptr && std::string_view(term) != "dumb";
}

bool stderr_has_colour() {
  const char* no_colour = std::getenv("NO_COLOR");
  return stderr_is_terminal() && (no_colour == nullptr || *no_colour == '\0');
}

}  // namespace detail
}  // namespace tandem
