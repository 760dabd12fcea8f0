#pragma once

#include <cstdint>
#include <deque>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "tandem/core/base/form.h"
#include "tandem/core/base/result.h"
#include "tandem/core/base/text.h"

namespace tandem::detail {

using Texts = std::vector<std::string>;
using FlagTarget = std::variant<std::string*, int32_t*, uint32_t*, int64_t*, uint64_t*, double*, bool*,
                                Texts*, std::filesystem::path*>;

/// The flag that names the file.
inline constexpr std::string_view kConfigFlag = "config";

/// A heading of --help and of the reference page, and a table of the TOML file. One without a name is no
/// table: its keys stand at the top of the file.
struct Section {
  std::string name;
  std::string title;
};

/// When a flag does nothing, and why.
struct Idle {
  std::string when;     ///< "with --local-steps"
  std::string because;  ///< "a round is so many steps, not passes"
  std::string remedy;   ///< "leave out --local-steps"; may be empty
  std::function<bool()> condition;
};

/// A flag of earlier versions, which is part of a present one.
struct ReplacedFlag {
  std::string name;
  /// Returns the present flag's text of the earlier flag's value and of the present flag's text without it.
  std::function<std::string(const std::string& value, const std::string& text)> respelled;
};

/// One row of the table that drives the command line, the file, the checks, --help and the reference page.
struct Flag {
  std::string name;
  std::string help;
  Section section;
  FlagTarget target;
  Texts choices;
  std::string default_text;
  std::string default_value = {};  ///< canonical
  bool positional = false;
  bool may_be_left_out = false;     ///< of a positional
  bool or_number = false;           ///< a text that may be a whole number alone, also in a file
  bool is_data = false;             ///< a text that names data: "idx:DIR"
  std::string path_parameter = {};  ///< of a text with parameters, the one that is a path
  Range range = {};
  std::vector<Form> forms = {};
  std::function<Result<void>()> check = {};
  std::vector<Idle> idle = {};
  bool may_stay_unused = false;
  bool of_the_run = true;                       ///< must be the same where a run goes on
  std::string of_the_run_when = {};             ///< for the reader, when it is not always
  std::function<bool()> of_the_run_while = {};  ///< then only while it holds
  std::vector<ReplacedFlag> replaced = {};
  bool given = false;
  Texts command_line = {};  ///< raw values, in order

  bool repeatable() const { return std::holds_alternative<Texts*>(target); }
  /// Whether a file may have it. The one that names the file is none.
  bool is_key() const { return !positional && name != kConfigFlag; }
  /// As a person types it: "--rounds", or a positional's bare name.
  std::string label() const { return positional ? name : "--" + name; }
};

using FlagTable = std::deque<Flag>;  // rows stay where they are while others are added

/// Stores texts, from wherever they come, into the flag's variable. `label` is how the error names the flag.
/// Paths, also those in names of data, are relative to `folder`, if one is given; "~/" at their beginning is
/// the user's home.
Result<void> assign(Flag& flag, const std::string& label, const Texts& texts,
                    const std::filesystem::path& folder = {});

/// The flag's value as text that means the same in any folder, in one spelling: two texts are the same
/// exactly when the values are. A specification is given with its defaults.
std::string canonical_text(const Flag& flag);

/// The flag's value as a person would write it.
std::string plain_text(const FlagTarget& target);

/// Whether the value fits the row: its range, its forms and its check. The error names the flag.
Result<void> check_value(const Flag& flag);

/// What is wrong with a value that is not the default and does nothing; nothing where it counts.
std::optional<std::string> idle_message(const Flag& flag);

/// An absolute path in one spelling.
std::string canonical_path(const std::filesystem::path& path);

/// The flag's `text` with `change` applied to the path in it; as it is where it names no files.
std::string with_changed_path(const Flag& flag, const std::string& text,
                              const std::function<std::string(const std::string&)>& change);

/// The flag that one of earlier versions belongs to now, and that one; null where there was none of this
/// name.
struct Replacement {
  const Flag* flag = nullptr;
  const ReplacedFlag* replaced = nullptr;
};
Replacement find_replaced(const FlagTable& flags, const std::string& name);

/// A flag of earlier versions that somebody gave.
struct GivenReplaced {
  Replacement replacement;
  std::string value;
  std::string label;  ///< "--momentum 0.9" or `key "momentum" in run.toml:3`
  bool in_file = false;
};

/// Says what to write instead of the first one, and of all others that belong to the same flag now, of which
/// there is at least one.
Error replaced_error(const std::vector<GivenReplaced>& given);

}  // namespace tandem::detail
