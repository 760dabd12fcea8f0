#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tandem/core/base/specification.h"

namespace tandem {

/// Exit statuses of every program.
enum ExitStatus : int { kExitDone = 0, kExitFailed = 1, kExitUsage = 2, kExitInterrupted = 130 };

/// A flag whose value a run has recorded and which is another now, both in one spelling.
struct FlagDifference {
  std::string name;
  std::string recorded;
  std::string present;
};

/// A program's flags, which are also the keys of a TOML file given with --config. One table drives the
/// command line, the file, --help and the resolved configuration that a run records. A flag on the
/// command line wins over the file; an unknown flag or key is an error that names the nearest known one.
/// Bound variables hold the defaults and receive the values; they must outlive the object.
class Flags {
 public:
  /// `program` as typed ("tandem-edge", "tandem simulate"), `description` one sentence for --help.
  Flags(std::string program, std::string description);
  ~Flags();

  /// Headings in --help; flags added afterwards belong to it.
  void group(const std::string& title);

  /// `name` without dashes, lower-case words joined by '-'; used twice or badly formed it throws
  /// std::logic_error. Numbers must fit the type and be finite; narrower ranges are the caller's to check.
  void add(const std::string& name, std::string& value, const std::string& help);
  void add(const std::string& name, int32_t& value, const std::string& help);
  void add(const std::string& name, uint32_t& value, const std::string& help);
  void add(const std::string& name, int64_t& value, const std::string& help);
  void add(const std::string& name, uint64_t& value, const std::string& help);
  void add(const std::string& name, double& value, const std::string& help);
  /// `--name`, `--name=false`; a TOML boolean.
  void add(const std::string& name, bool& value, const std::string& help);
  /// Repeatable: `--device a --device b`; a TOML array of strings.
  void add(const std::string& name, std::vector<std::string>& value, const std::string& help);
  /// A path; in a TOML file, relative to that file's folder and made absolute. "~/" is the user's home.
  void add_path(const std::string& name, std::filesystem::path& value, const std::string& help);
  /// A text that names data, "idx:DIR": where its ARG is a path, that is treated as one of
  /// add_path.
  void add_data(const std::string& name, std::string& value, const std::string& help);
  /// Makes the value one of `choices`; the error lists them and the nearest.
  void add_choice(const std::string& name, std::string& value, std::vector<std::string> choices,
                  const std::string& help);
  /// Refuses a flag of earlier versions, also as a key of the file: the error says what to write instead,
  /// which is `parameter` of the specification that `flag`, a text, takes.
  void add_removed(const std::string& name, const std::string& flag, const std::string& parameter);
  /// An argument without a name, required; not a key of the file.
  void add_positional(const std::string& name, std::string& value, const std::string& help);
  void add_positional(const std::string& name, std::filesystem::path& value, const std::string& help);
  /// One or more of them; the last positional to be added.
  void add_positional(const std::string& name, std::vector<std::string>& value, const std::string& help);

  /// Flags that may be others where a run goes on: how its programs work, not what they compute. Every other
  /// flag belongs to the run. A name that was never added throws std::logic_error.
  void not_of_the_run(const std::vector<std::string>& names);

  /// Parses the command line (argv[0] is skipped) and the file it names, once. Returns the status to exit
  /// with at once: after
  /// --help or --version (printed to stdout) kExitDone, after a mistake (one line to stderr) kExitUsage;
  /// nothing when the program should go on. With `--log-format json` the mistake is an object.
  std::optional<int> parse(int argc, const char* const* argv);

  /// True when the command line or the file set it; std::logic_error for a name that was never added.
  bool given(const std::string& name) const;

  /// The values now in force, as TOML that --config accepts, with a comment line for each group. Paths inside
  /// of `folder`, where the text will lie, are relative to it, so that it can be moved; all others are
  /// absolute, so that the text means the same wherever it is used.
  std::string to_toml(const std::filesystem::path& folder = {}) const;

  /// What of the run differs from the values that to_toml recorded in this file: as values, so that 0.1 is
  /// 1e-1 and /a/./b is /a/b. Flags that the file does not mention differ in nothing. `also`: flags that
  /// belong to the run this time.
  Result<std::vector<FlagDifference>> differences_from(const std::filesystem::path& recorded,
                                                       const std::vector<std::string>& also = {}) const;

  /// Those differences for a person: `--rounds 5, now 7; --seed 1, now 2`.
  static std::string text_of(const std::vector<FlagDifference>& differences);

  /// What --help prints.
  std::string help() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tandem
