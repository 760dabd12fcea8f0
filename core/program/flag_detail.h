#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "tandem/core/base/result.h"
#include "tandem/core/base/text.h"

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
  bool is_data = false;    ///< a text that names data: "idx:DIR"
  bool of_the_run = true;  ///< must be the same where a run goes on
  bool given = false;
  Texts command_line = {};  ///< raw values, in order

  bool repeatable() const { return std::holds_alternative<Texts*>(target); }
  /// Whether a file may have it. The one that names the file is none.
  bool is_key() const { return !positional && name != kConfigFlag; }
  /// As a person types it: "--rounds", or a positional's bare name.
  std::string label() const { return positional ? name : "--" + name; }
};

/// A flag of earlier versions, which is now `parameter` of the specification that `flag` takes.
struct RemovedFlag {
  std::string name;
  std::string flag;
  std::string parameter;
};

/// Returns `specification` with one more parameter.
std::string with_parameter(const std::string& specification, const std::string& parameter,
                           const std::string& value);

/// Stores texts, from wherever they come, into the flag's variable. `label` is how the error names the flag.
/// Paths, also those in names of data, are relative to `folder`, if one is given; "~/" at their beginning is
/// the user's home.
Result<void> assign(Flag& flag, const std::string& label, const Texts& texts,
                    const std::filesystem::path& folder = {});

/// The flag's value as text that means the same in any folder, in one spelling: two texts are the same
/// exactly when the values are.
std::string canonical_text(const Flag& flag);

/// An absolute path in one spelling.
std::string canonical_path(const std::filesystem::path& path);

/// `text`, which names data, with `change` applied to the path in it; as it is where it names no files.
std::string with_changed_path(const std::string& text,
                              const std::function<std::string(const std::string&)>& change);

}  // namespace tandem::detail
