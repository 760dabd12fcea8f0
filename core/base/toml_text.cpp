#include <algorithm>

#include "tandem/core/base/toml_text_detail.h"

namespace tandem::detail {
namespace {

/// Bytes of the sequence that `text` starts with, 0 when it is not UTF-8 (overlong forms and surrogates
/// are not).
size_t utf8_length(std::string_view text) {
  const auto byte = [&](size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  const auto follows = [&](size_t i) { return (byte(i) & 0xC0) == 0x80; };
  const unsigned first = byte(0);
  if (first < 0x80) return 1;
  if (first >= 0xC2 && first < 0xE0) return follows(1) ? 2 : 0;
  if (first >= 0xE0 && first < 0xF0) {
    if ((first == 0xE0 && byte(1) < 0xA0) || (first == 0xED && byte(1) >= 0xA0)) return 0;
    return follows(1) && follows(2) ? 3 : 0;
  }
  if (first >= 0xF0 && first < 0xF5) {
    if ((first == 0xF0 && byte(1) < 0x90) || (first == 0xF4 && byte(1) >= 0x90)) return 0;
    return follows(1) && follows(2) && follows(3) ? 4 : 0;
  }
  return 0;
}

}  // namespace

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const size_t length = utf8_length(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

std::string toml_string(std::string_view text) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::string escaped = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      escaped += '\\';
      escaped += c;
    } else if (c == '\n') {
      escaped += "\\n";
    } else if (c == '\t') {
      escaped += "\\t";
    } else if (byte < 0x20 || byte == 0x7F) {
      escaped += std::string("\\u00") + kHex[byte >> 4] + kHex[byte & 15];
    } else {
      escaped += c;
    }
  }
  return escaped + "\"";
}

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
