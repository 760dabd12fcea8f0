#pragma once

#include <array>
#include <charconv>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "tandem/core/base/result.h"

namespace tandem::detail {

using Texts = std::vector<std::string>;
using FlagTarget = std::variant<std::string*, int32_t*, uint32_t*, int64_t*, uint64_t*, double*, bool*,
                                Texts*, std::filesystem::path*>;

/// The flag that names the file.
inline constexpr std::string_view kConfigFlag = "config";

/// One row of the table that drives the command line, the file and --help.
struct Flag {
  std::string name;
  std::string help;
  std::string group;
  FlagTarget target;
  Texts choices;
  std::string default_text;
  bool positional = false;
  bool given = false;
  Texts command_line = {};  ///< raw values, in order

  bool repeatable() const { return std::holds_alternative<Texts*>(target); }
  /// Whether a file may have it. The one that names the file is none.
  bool is_key() const { return !positional && name != kConfigFlag; }
  /// As a person types it: "--rounds", or a positional's bare name.
  std::string label() const { return positional ? name : "--" + name; }
};

/// Stores texts, from wherever they come, into the flag's variable. `label` is how the error names the flag.
Result<void> assign(Flag& flag, const std::string& label, const Texts& texts);

/// The shortest text that reads back as the same number.
template <class T>
std::string number_text(T value) {
  std::array<char, 64> buffer;
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value).ptr;
  return std::string(buffer.data(), end);
}

}  // namespace tandem::detail
