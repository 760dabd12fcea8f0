#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tandem/core/base/specification.h"
#include "tandem/core/program/option_row.h"

namespace tandem {

/// Exit statuses of every program.
enum ExitStatus : int { kExitDone = 0, kExitFailed = 1, kExitUsage = 2, kExitInterrupted = 130 };

/// A flag whose value a run has recorded and which is another now, both in one spelling.
struct FlagDifference {
  std::string name;
  std::string recorded;
  std::string present;
};

/// A program's flags, which are also the keys of a TOML file given with --config. One table, a row a flag,
/// drives the command line, the file, the checks, --help, the reference page and the resolved configuration
/// that a run records. A flag on the command line wins over the file; an unknown flag or key is an error that
/// names the nearest known one. Bound variables hold the defaults and receive the values; they must outlive
/// the object.
class Flags {
 public:
  /// `program` as typed ("tandem-edge", "tandem simulate"), `description` one sentence for --help.
  Flags(std::string program, std::string description);
  ~Flags();

  /// Begins a section, to which flags added afterwards belong: a heading in --help, and the table `name` of a
  /// file. Flags before the first section are keys at the top of a file.
  void section(const std::string& name, const std::string& title);

  /// `name` without dashes, lower-case words joined by '-'; used twice or badly formed it throws
  /// std::logic_error. Numbers must fit the type and be finite; OptionRow narrows them.
  OptionRow add(const std::string& name, std::string& value, const std::string& help);
  OptionRow add(const std::string& name, int32_t& value, const std::string& help);
  OptionRow add(const std::string& name, uint32_t& value, const std::string& help);
  OptionRow add(const std::string& name, int64_t& value, const std::string& help);
  OptionRow add(const std::string& name, uint64_t& value, const std::string& help);
  OptionRow add(const std::string& name, double& value, const std::string& help);
  /// `--name`, `--name=false`; a TOML boolean.
  OptionRow add(const std::string& name, bool& value, const std::string& help);
  /// Repeatable: `--device a --device b`; a TOML array of strings.
  OptionRow add(const std::string& name, std::vector<std::string>& value, const std::string& help);
  /// A path; in a TOML file, relative to that file's folder and made absolute. "~/" is the user's home.
  OptionRow add_path(const std::string& name, std::filesystem::path& value, const std::string& help);
  /// A text that names data, "idx:DIR": where its ARG is a path, that is treated as one of
  /// add_path.
  OptionRow add_data(const std::string& name, std::string& value, const std::string& help);
  /// Makes the value one of `choices`; the error lists them and the nearest.
  OptionRow add_choice(const std::string& name, std::string& value, std::vector<std::string> choices,
                       const std::string& help);
  /// An argument without a name, required; not a key of the file.
  void add_positional(const std::string& name, std::string& value, const std::string& help);
  OptionRow add_positional(const std::string& name, std::filesystem::path& value, const std::string& help);
  /// One or more of them; the last positional to be added.
  void add_positional(const std::string& name, std::vector<std::string>& value, const std::string& help);

  /// Parses the command line (argv[0] is skipped) and the file it names, once, and checks the values. Returns
  /// the status to exit with at once: after --help, --help-markdown or --version (printed to stdout)
  /// kExitDone, after a mistake (one line to stderr) kExitUsage; nothing when the program should go on. With
  /// `--log-format json` the mistake is an object.
  std::optional<int> parse(int argc, const char* const* argv);

  /// Checks the present values against the table, row by row; parse() has done so. kInvalidArgument names the
  /// first flag that is out of its range, fits none of its forms, or would do nothing although it is not at
  /// its default: the configuration that a run records has every flag, and must do for a run that goes on.
  Result<void> check() const;

  /// A line for each flag that does nothing and may stay as it is, for example while algorithms are compared.
  std::vector<std::string> notes() const;

  /// True when the command line or the file set it; std::logic_error for a name that was never added.
  bool given(const std::string& name) const;

  /// The values now in force, as TOML that --config accepts, with a table for each section. Paths inside
  /// of `folder`, where the text will lie, are relative to it, so that it can be moved; all others are
  /// absolute, so that the text means the same wherever it is used.
  std::string to_toml(const std::filesystem::path& folder = {}) const;

  /// What of the run differs from the values that to_toml recorded in this file: as values, so that 0.1 is
  /// 1e-1, /a/./b is /a/b and sgd is sgd:momentum=0. Flags that the file does not mention differ in nothing.
  Result<std::vector<FlagDifference>> differences_from(const std::filesystem::path& recorded) const;

  /// Those differences for a person: `--rounds 5, now 7; --seed 1, now 2`.
  static std::string text_of(const std::vector<FlagDifference>& differences);

  /// What --help prints.
  std::string help() const;

  /// What --help-markdown prints: the program's part of the reference page.
  std::string reference() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tandem
