#include <algorithm>

#include "tandem/core/config/toml_nesting_detail.h"

namespace tandem::detail {

std::optional<TomlNesting> find_deep_nesting(std::string_view text) {
  for (size_t line = 1; !text.empty(); ++line) {
    const std::string_view content = text.substr(0, text.find('\n'));
    const auto dots = static_cast<size_t>(std::count(content.begin(), content.end(), '.'));
    if (dots > kMaxTomlDots) {
      return TomlNesting{line, "a line has at most " + std::to_string(kMaxTomlDots) +
                                   " dots, since each may nest a table; found " + std::to_string(dots)};
    }
    text.remove_prefix(std::min(content.size() + 1, text.size()));
  }
  return std::nullopt;
}

}  // namespace tandem::detail
