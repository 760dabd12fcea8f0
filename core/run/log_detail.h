#pragma once

#include <chrono>
#include <cstdio>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

namespace tandem::detail {

using LogFields = nlohmann::ordered_json;

/// One line with its line end: {"time":"2026-11-25T13:00:00.123Z","level":..,"program":..,"message":..} and
/// the fields after them. Bytes that are not UTF-8 become U+FFFD; figures that are not finite become null.
std::string json_line(std::chrono::system_clock::time_point time, std::string_view level,
                      std::string_view program, std::string_view message,
                      const LogFields& fields = LogFields::object());

/// Writes such a line of this program and this moment to the log, in one piece.
void write_json_line(std::string_view level, std::string_view message,
                     const LogFields& fields = LogFields::object());

/// Such a line of this moment, for a result, which goes to standard output.
std::string json_line_now(std::string_view level, std::string_view message, const LogFields& fields);

/// Whether stderr can redraw a line: a terminal that is not "dumb".
bool stderr_is_terminal();
/// Whether it may also be coloured: nobody set NO_COLOR.
bool stderr_has_colour();

}  // namespace tandem::detail
