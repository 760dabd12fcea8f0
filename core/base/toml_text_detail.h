#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace tandem::detail {

/// Most dots on one line of a TOML file.
inline constexpr size_t kMaxTomlDots = 5000;

/// What is wrong with a text that no TOML parser should see: toml++ makes a table for each dot of a key and
/// destroys them by recursion, so that a line of a million dots overflows the stack.
struct TomlNesting {
  size_t line = 0;  ///< from 1
  std::string problem;
};

/// The first line with more than kMaxTomlDots dots, or nothing. (Brackets need no check: toml++ counts them.)
std::optional<TomlNesting> find_deep_nesting(std::string_view text);

/// Overlong forms and surrogates are not.
bool is_utf8(std::string_view text);

/// `text`, which is UTF-8, as a quoted TOML string or key that reads back as the same. (What toml++ 3.3
/// writes itself does not where the text has an apostrophe.)
std::string toml_string(std::string_view text);

}  // namespace tandem::detail
