#include "tandem/core/run/log.h"

#include <spdlog/formatter.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <array>
#include <atomic>
#include <cstdio>
#include <ctime>
#include <memory>
#include <utility>

#include "tandem/core/run/log_detail.h"

namespace tandem {
namespace {

std::atomic<LogFormat> g_format{LogFormat::kText};

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
    auto logger =
        std::make_shared<spdlog::logger>(program, std::make_shared<spdlog::sinks::stderr_sink_mt>());
    logger->set_formatter(std::make_unique<JsonFormatter>(program));
    spdlog::set_default_logger(std::move(logger));
  } else {
    spdlog::set_default_logger(
        std::make_shared<spdlog::logger>(program, std::make_shared<spdlog::sinks::stderr_color_sink_mt>()));
    spdlog::set_pattern("%H:%M:%S %^%l%$ %v");
  }
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

void write_json_line(std::FILE* to, std::string_view level, std::string_view message,
                     const LogFields& fields) {
  const std::string line =
      json_line(std::chrono::system_clock::now(), level, spdlog::default_logger()->name(), message, fields);
  std::fwrite(line.data(), 1, line.size(), to);
  std::fflush(to);
}

}  // namespace detail
}  // namespace tandem
