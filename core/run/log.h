#pragma once

#include <string>

namespace tandem {

/// How the lines look that a program writes for people and log collectors.
enum class LogFormat {
  kText,  ///< "13:00:00 info ...", a progress bar on a terminal
  kJson,  ///< one JSON object a line: time, level, program, message and what else is known
};

/// "text" or "json"; anything else is text.
LogFormat parse_log_format(const std::string& text);

/// Makes spdlog's default logger write to stderr in this format, and Progress with it. In JSON, what
/// libraries write to stderr becomes lines of the log too, until end_logging(). Called once, by run_program,
/// before other threads are there.
void configure_logging(const std::string& program, LogFormat format);
void end_logging();

/// The format in force; text until configure_logging() was called. Any thread.
LogFormat log_format();

}  // namespace tandem
